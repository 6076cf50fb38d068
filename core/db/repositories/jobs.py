"""Jobs: submitted, asked to stop, queued again, and read."""

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import JsonValue
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from core.db.models.job import Job, JobEvent, JobItem
from core.db.repositories.job_events import append_state, close
from core.db.repositories.newest import read_newest
from core.domain.job import (
    ACTIVE,
    RESUMABLE,
    EventKind,
    JobCard,
    JobPage,
    JobQueue,
    JobSlice,
    JobState,
    Progress,
)
from core.domain.job import JobEvent as Event
from core.domain.place import NewestPlace
from core.domain.views import LogLine
from core.errors import Conflict, NotFound

LOG_LINES_OF_PAGE = 500

_CARD = (
    Job.id,
    Job.kind,
    Job.title,
    Job.state,
    Job.attempt,
    Job.progress,
    Job.created_at,
    Job.started_at,
    Job.finished_at,
    Job.error_code,
    Job.error_message,
    Job.error_hint,
    Job.result,
)


def add(
    session: Session,
    *,
    kind: str,
    title: str,
    queue: JobQueue,
    spec: dict[str, JsonValue],
    created_by: str | None,
) -> int:
    """A new queued job; returns its id."""
    row = insert(Job).values(
        kind=kind,
        title=title,
        queue=queue,
        spec=spec,
        state=JobState.QUEUED,
        created_by=created_by,
    )
    job_id = session.execute(row.returning(Job.id)).scalar_one()
    append_state(session, job_id)
    return job_id


def set_engine_job(session: Session, job_id: int, engine_job_id: int) -> None:
    """Remember which entry of the engine's queue will start the job."""
    session.execute(update(Job).where(Job.id == job_id).values(engine_job_id=engine_job_id))


def request_cancel(session: Session, job_id: int) -> tuple[JobState, int | None]:
    """Ask a job to stop; returns its new state and the queue entry that is now of no use.

    A queued job is cancelled at once, a running one becomes cancelling; one that is already
    cancelling or cancelled stays as it is.

    Raises:
        NotFound: no such job.
        Conflict: the job has ended otherwise.
    """
    state, entry = _lock(session, job_id)
    match state:
        case JobState.QUEUED:
            close(session, job_id, JobState.CANCELLED)
            return JobState.CANCELLED, entry
        case JobState.RUNNING:
            values = {"state": JobState.CANCELLING, "cancel_requested": True}
            session.execute(update(Job).where(Job.id == job_id).values(values))
            append_state(session, job_id)
            return JobState.CANCELLING, None
        case JobState.CANCELLING | JobState.CANCELLED:
            return state, None
        case _:
            raise Conflict(
                f"Job {job_id} has {state}.", hint="Only a waiting or running job stops."
            )


def requeue(session: Session, job_id: int, *, fresh: bool) -> int:
    """Put a job back into the queue as its next attempt; returns the attempt's number.

    The epoch moves on, so that whoever held the claim can no longer write. A fresh start, asked
    for by a person, forgets the last error and earlier crashes.
    """
    values: dict[str, Any] = {
        "state": JobState.QUEUED,
        "attempt": Job.attempt + 1,
        "epoch": Job.epoch + 1,
        "owner": None,
        "cancel_requested": False,
    }
    if fresh:
        values |= {"crashes": 0, "started_at": None, "finished_at": None, "result": None}
        values |= {"error_code": None, "error_message": None, "error_hint": None}
    changed = update(Job).where(Job.id == job_id).values(values).returning(Job.attempt)
    attempt = session.execute(changed).scalar_one()
    append_state(session, job_id)
    return attempt


def list_jobs(
    session: Session,
    *,
    state: JobState | None = None,
    kind: str | None = None,
    limit: int = 50,
) -> tuple[JobCard, ...]:
    """The newest jobs, the newest first."""
    query = select(*_CARD).order_by(Job.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    return tuple(_card(row) for row in session.execute(query))


def list_page(
    session: Session,
    *,
    place: NewestPlace,
    limit: int,
    state: JobState | None = None,
    kinds: Collection[str] = (),
) -> JobSlice:
    """One page of jobs, the newest first."""
    query = select(*_CARD)
    if state is not None:
        query = query.where(Job.state == state)
    if kinds:
        query = query.where(Job.kind.in_(kinds))
    page = read_newest(session, query, Job.id, place=place, limit=limit)
    return JobSlice(
        jobs=tuple(_card(row) for row in page.found),
        previous_after=page.previous_after,
        next_before=page.next_before,
    )


def find_by_spec(session: Session, spec: dict[str, JsonValue]) -> tuple[JobCard, ...]:
    """Jobs with exactly these settings, the newest first."""
    query = select(*_CARD).where(Job.spec == spec).order_by(Job.id.desc())
    return tuple(_card(row) for row in session.execute(query))


def get_card(session: Session, job_id: int) -> JobCard:
    """One job as in the list."""
    row = session.execute(select(*_CARD).where(Job.id == job_id)).one_or_none()
    if row is None:
        raise _missing(job_id)
    return _card(row)


def get_spec(session: Session, job_id: int) -> dict[str, JsonValue]:
    """The settings of a job as they were submitted."""
    spec = session.execute(select(Job.spec).where(Job.id == job_id)).scalar_one_or_none()
    if spec is None:
        raise _missing(job_id)
    return spec


def get_job(session: Session, job_id: int) -> JobPage:
    """Everything the job's page shows at first."""
    more = (Job.queue, Job.spec, Job.created_by, Job.last_seq)
    row = session.execute(select(*_CARD, *more).where(Job.id == job_id)).one_or_none()
    if row is None:
        raise _missing(job_id)
    items = select(func.count()).where(JobItem.job_id == job_id, JobItem.state == "done")
    return JobPage(
        card=_card(row),
        queue=JobQueue(row.queue),
        spec=row.spec,
        created_by=row.created_by,
        last_seq=row.last_seq,
        items_done=session.execute(items).scalar_one(),
        log=_log(session, job_id, row.last_seq),
    )


def events_after(
    session: Session, job_id: int, *, seq: int, limit: int = 1_000
) -> tuple[Event, ...]:
    """Events of a job with a higher number than ``seq``, in order."""
    query = (
        select(JobEvent.seq, JobEvent.at, JobEvent.kind, JobEvent.payload)
        .where(JobEvent.job_id == job_id, JobEvent.seq > seq)
        .order_by(JobEvent.seq)
        .limit(limit)
    )
    return tuple(
        Event(seq=row.seq, at=row.at, kind=EventKind(row.kind), payload=row.payload)
        for row in session.execute(query)
    )


def set_spec(session: Session, job_id: int, spec: dict[str, JsonValue]) -> None:
    """Change the settings of a job that does not run.

    Raises:
        NotFound: no such job.
        Conflict: the job is active or has succeeded.
    """
    state, _ = _lock(session, job_id)
    if state not in RESUMABLE:
        raise Conflict(f"Job {job_id} is {state}.", hint="Pause or stop it first.")
    session.execute(update(Job).where(Job.id == job_id).values(spec=spec))


def item_failures(session: Session, job_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many items of each job failed, by code, commonest first; jobs without are absent."""
    counted = func.count().label("n")
    query = (
        select(JobItem.job_id, JobItem.error_code, counted)
        .where(JobItem.job_id.in_(list(job_ids)), JobItem.state == "failed")
        .group_by(JobItem.job_id, JobItem.error_code)
        .order_by(JobItem.job_id, counted.desc(), JobItem.error_code)
    )
    found: dict[int, dict[str, int]] = {}
    for job_id, code, n in session.execute(query):
        found.setdefault(job_id, {})[code or ""] = n
    return found


def queue_of_job(session: Session, job_id: int) -> JobQueue:
    """The resource that a job needs."""
    return JobQueue(session.execute(select(Job.queue).where(Job.id == job_id)).scalar_one())


def engine_job_of(session: Session, job_id: int) -> int | None:
    """The entry of the engine's queue that started the job last."""
    return session.execute(select(Job.engine_job_id).where(Job.id == job_id)).scalar_one_or_none()


def delete_job(session: Session, job_id: int) -> None:
    """Remove an ended job with its items and events."""
    if _lock(session, job_id)[0] in ACTIVE:
        raise Conflict(f"Job {job_id} has not ended.", hint="Stop it first.")
    session.execute(delete(Job).where(Job.id == job_id))


def _missing(job_id: int) -> NotFound:
    return NotFound(f"There is no job {job_id}.", hint="See the list of jobs.")


def _lock(session: Session, job_id: int) -> tuple[JobState, int | None]:
    """State and queue entry; the row stays locked."""
    query = select(Job.state, Job.engine_job_id).where(Job.id == job_id).with_for_update()
    row = session.execute(query).one_or_none()
    if row is None:
        raise _missing(job_id)
    return JobState(row.state), row.engine_job_id


def _log(session: Session, job_id: int, last_seq: int) -> tuple[LogLine, ...]:
    query = (
        select(JobEvent.seq, JobEvent.at, JobEvent.payload)
        .where(
            JobEvent.job_id == job_id,
            JobEvent.seq <= last_seq,
            JobEvent.kind == EventKind.LOG,
        )
        .order_by(JobEvent.seq.desc())
        .limit(LOG_LINES_OF_PAGE)
    )
    return tuple(
        LogLine(seq=row.seq, at=row.at, **row.payload)
        for row in reversed(session.execute(query).all())
    )


def _card(row: Any) -> JobCard:
    return JobCard(
        job_id=row.id,
        kind=row.kind,
        title=row.title,
        state=JobState(row.state),
        attempt=row.attempt,
        progress=None if row.progress is None else Progress(**row.progress),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error_code=row.error_code,
        error_message=row.error_message,
        error_hint=row.error_hint,
        result=row.result,
    )
