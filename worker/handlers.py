"""Which function does which kind of job."""

from pydantic import JsonValue

from core.domain.job import JobSpec
from worker.progress import JobContext


def run_job(spec: JobSpec, job: JobContext) -> dict[str, JsonValue]:
    """Do the job; returns the result that is stored on it.

    The handlers load torch, so they are imported where they are needed.
    """
    from worker.harvest.run import run_harvest

    return run_harvest(spec, job)
