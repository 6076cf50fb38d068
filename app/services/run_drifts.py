"""What an alignment run moved: its newest drift, the job that measures one, and its samples."""

from dataclasses import dataclass

from app.services.align_runs import RunCard
from core.db.repositories import (
    drift_features,
    drift_material,
    drifts,
    job_numbers,
    jobs,
    samples,
)
from core.db.session import Session
from core.domain.align_jobs import DriftSpec
from core.domain.alignment import AlignSpec
from core.domain.job import JobCard
from core.domain.views_drift import DriftCard, DriftList, DriftQuery, SampleSet
from core.errors import Conflict
from core.jobs import control

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


def measure(session: Session, run: RunCard) -> int:
    """Starts a measurement of what a run moved; the id of its job, an active one's if there is one.

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
    return control.submit(
        session,
        DriftSpec(
            run_job_id=run.job_id,
            model_id=spec.model_id,
            model=spec.model,
            aligned_id=spec.aligned_id,
            aligned_dir=str(result["model_dir"]),
            method=spec.method.value,
            saes=drift_material.default_saes(
                session, model_id=spec.model_id, constraint=spec.constraint
            ),
            constraint=spec.constraint,
            data=spec.data,
            lengths=spec.lengths,
            dtype=spec.dtype,
            device=spec.device,
        ),
    )


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
