"""What an alignment run moved: its newest drift, the job that measures one, and its samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from app.services.align.runs import RunCard
from core.db.repositories import (
    drift_features,
    drifts,
    job_numbers,
    jobs,
    samples,
)
from core.db.session import Session
from core.domain.align_jobs import SamplingSpec
from core.domain.alignment import AlignSpec
from core.domain.job import JobCard
from core.domain.views_drift import DriftCard, DriftList, DriftQuery, SampleSet
from core.errors import Conflict, Invalid
from core.jobs import align_follow

_JOBS_LOOKED_AT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDrift:
    """What is known of what a run moved.

    Attributes:
        drift: the newest measurement; None before there is one.
        job: a measurement that runs, or the newest that ended without a result; else None.
        can_measure: whether the run has a model to measure.
    """

    drift: DriftCard | None
    job: JobCard | None
    can_measure: bool


def run_drift(session: Session, run: RunCard) -> RunDrift:
    """The measurement of what a run moved, and the job that makes one."""
    drift = drifts.newest_of_run(session, run.job_id)
    job = _newest_job(session, run.job_id)
    told = job is not None and (job.active or job.can_resume)
    newer = job is not None and (drift is None or drift.job_id is None or job.job_id > drift.job_id)
    return RunDrift(
        drift=drift,
        job=job if told and newer else None,
        can_measure=isinstance(run.spec, AlignSpec) and run.job.result is not None,
    )


def measure(session: Session, run: RunCard, *, sampling: SamplingSpec | None = None) -> int:
    """Starts a measurement of what a run moved; the id of its job, an active one's if there is one.

    Args:
        session: the database.
        run: a finished run.
        sampling: how samples are drawn; None for the defaults.

    Raises:
        Conflict: the run has made no model yet.
    """
    running = _newest_job(session, run.job_id)
    if running is not None and running.active:
        return running.job_id
    spec, result = run.spec, run.job.result
    if not isinstance(spec, AlignSpec) or result is None:
        raise Conflict(
            f"Run {run.job_id} has made no aligned model yet.", hint="Wait until it has finished."
        )
    return align_follow.submit_drift(
        session,
        spec,
        run_job_id=run.job_id,
        model_dir=str(result["model_dir"]),
        sampling=sampling,
    )


def sampling_of(typed: Mapping[str, str]) -> SamplingSpec:
    """How samples are drawn, from what was typed; what is missing stays at its default.

    Raises:
        Invalid: a number is out of its range; the message names it.
    """
    given = {name: text for name in SamplingSpec.model_fields if (text := typed.get(name, ""))}
    try:
        return SamplingSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{place}: {first['msg']}.", hint="Mend the settings of samples.") from error


def moved_rows(session: Session, drift: DriftCard, *, sae_id: str, query: DriftQuery) -> DriftList:
    """One page of the features of one SAE of a drift.

    Raises:
        NotFound: the SAE is not in it.
        Invalid: the place of the page is none.
    """
    return drift_features.list_rows(session, drift.drift_id, sae_id=sae_id, query=query)


def run_samples(session: Session, drift: DriftCard) -> SampleSet | None:
    """What both models wrote to the same prompts; None where nothing was written."""
    return samples.get_samples(session, drift.drift_id) if drift.n_samples else None


def _newest_job(session: Session, run_job_id: int) -> JobCard | None:
    found = jobs.list_jobs(session, kind="drift", limit=_JOBS_LOOKED_AT)
    specs = job_numbers.specs(session, [card.job_id for card in found])
    return next((c for c in found if specs[c.job_id].get("run_job_id") == run_job_id), None)
