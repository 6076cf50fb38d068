"""What a person does with a job: submit it, ask it to stop, ask for another attempt."""

from sqlalchemy.orm import Session

from core.db.repositories import job_queue, jobs
from core.domain.job import JobQueue, JobSpec, JobState, job_title, spec_json
from core.errors import Conflict
from core.jobs.engine import enqueue


def queue_of(spec: JobSpec) -> JobQueue:
    """The resource that a job needs."""
    match spec.kind:
        case "harvest" | "align" | "sft" | "align_check" | "contrast" | "drift":
            return JobQueue.GPU
        case "explain" | "fetch":
            return JobQueue.LLM


def submit(session: Session, spec: JobSpec, *, created_by: str | None = None) -> int:
    """A new job, queued when the session's transaction commits; returns its id."""
    queue = queue_of(spec)
    job_id = jobs.add(
        session,
        kind=spec.kind,
        title=job_title(spec),
        queue=queue,
        spec=spec_json(spec),
        created_by=created_by,
    )
    enqueue(session, queue=queue, job_id=job_id, attempt=1)
    return job_id


def request_cancel(session: Session, job_id: int) -> JobState:
    """Ask a job to stop: a waiting one is cancelled at once, a running one becomes cancelling.

    Raises:
        NotFound: no such job.
        Conflict: the job has ended otherwise.
    """
    state, entry = jobs.request_cancel(session, job_id)
    if entry is not None:
        job_queue.withdraw(session, entry)
    return state


def resume(session: Session, job_id: int) -> int:
    """Queue another attempt, which skips finished items; returns the attempt's number.

    Raises:
        NotFound: no such job.
        Conflict: the job is active or has succeeded.
    """
    card = jobs.get_card(session, job_id)
    if not card.can_resume:
        raise Conflict(
            f"Job {job_id} is {card.state}.",
            hint="Only a stopped, paused or failed job can be resumed.",
        )
    attempt = jobs.requeue(session, job_id, fresh=True)
    enqueue(session, queue=jobs.queue_of_job(session, job_id), job_id=job_id, attempt=attempt)
    return attempt
