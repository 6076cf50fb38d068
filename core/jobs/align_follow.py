"""What comes after an alignment run: the job that measures what moved."""

from sqlalchemy.orm import Session

from core.db.repositories import drift_material
from core.domain.align_jobs import DriftSpec, SamplingSpec
from core.domain.alignment import AlignSpec
from core.jobs.control import submit


def drift_spec_of(
    session: Session,
    spec: AlignSpec,
    *,
    run_job_id: int,
    model_dir: str,
    sampling: SamplingSpec | None = None,
) -> DriftSpec:
    """The drift of a finished run: its constraint set and every other harvested SAE of its model.

    Args:
        session: to see which SAEs have a harvest.
        spec: the run's settings.
        run_job_id: the run.
        model_dir: folder of the trained model, from the run's result.
        sampling: how samples are drawn; None for the defaults.
    """
    return DriftSpec(
        run_job_id=run_job_id,
        model_id=spec.model_id,
        model=spec.model,
        aligned_id=spec.aligned_id,
        aligned_dir=model_dir,
        method=spec.method.value,
        saes=drift_material.default_saes(
            session, model_id=spec.model_id, constraint=spec.constraint
        ),
        constraint=spec.constraint,
        data=spec.data,
        lengths=spec.lengths,
        dtype=spec.dtype,
        device=spec.device,
        sampling=sampling or SamplingSpec(),
    )


def submit_drift(
    session: Session,
    spec: AlignSpec,
    *,
    run_job_id: int,
    model_dir: str,
    sampling: SamplingSpec | None = None,
    created_by: str | None = None,
) -> int:
    """Queue the drift of a finished run; returns the new job's id."""
    drift = drift_spec_of(
        session, spec, run_job_id=run_job_id, model_dir=model_dir, sampling=sampling
    )
    return submit(session, drift, created_by=created_by)
