"""Which function does which kind of job."""

from typing import assert_never

from pydantic import JsonValue

from core.domain.align_jobs import AlignCheckSpec, ContrastSpec, DriftSpec, FetchSpec
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.explain_job import ExplainSpec
from core.domain.harvest import HarvestSpec
from core.domain.job import JobSpec
from worker.progress import JobContext


def run_job(spec: JobSpec, job: JobContext) -> dict[str, JsonValue]:
    """Do the job; returns the result that is stored on it.

    The handlers load torch, so they are imported where they are needed.
    """
    match spec:
        case HarvestSpec():
            from worker.harvest.run import run_harvest

            return run_harvest(spec, job)
        case ExplainSpec():
            from worker.explain.run import run_explain

            return run_explain(spec, job)
        case AlignSpec():
            from worker.align.run import run_align

            return run_align(spec, job)
        case SftSpec():
            from worker.align.run import run_sft

            return run_sft(spec, job)
        case AlignCheckSpec():
            from worker.align.check import run_check

            return run_check(spec, job)
        case FetchSpec():
            from worker.align.data.fetch import run_fetch

            return run_fetch(spec, job)
        case ContrastSpec():
            from worker.contrast.run import run_contrast

            return run_contrast(spec, job)
        case DriftSpec():
            from worker.drift.run import run_drift

            return run_drift(spec, job)
        case _:
            assert_never(spec)
