"""Jobs: submitted, claimed, written to by the attempt that holds the claim, and read.

Every write of an attempt is fenced: it changes nothing and raises ClaimLost unless the job's epoch
is still the attempt's own. Events of a job are numbered by a counter in the job's row, which stays
locked until the transaction ends; numbers therefore have no gaps and become visible in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.db.session import SessionScope
from pydantic import JsonValue
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from core.db.models.job import Job, JobEvent, JobItem
from core.domain.job import (
    Claim,
    EventKind,
    JobCard,
    JobFailure,
    JobPage,
    JobQueue,
    JobState,
    Progress,
)
from core.domain.job import JobEvent as Event
from core.domain.views import LogLine
from core.errors import ClaimLost, Conflict, NotFound

EVENT_CHANNEL = "sparsight_job_event"  # NOTIFY with the job's id whenever events were added
LOG_LINES_OF_PAGE = 500

_HELD = (JobState.RUNNING, JobState.CANCELLING)
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
Payload = Mapping[str, JsonValue]


# ---- submitting -------------------------------------------------------------------------------


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
    _append_state(session, job_id)
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
    row = _lock(session, job_id)
    match JobState(row.state):
        case JobState.QUEUED:
            _close(session, job_id, JobState.CANCELLED)
            return JobState.CANCELLED, row.engine_job_id
        case JobState.RUNNING:
            values = {"state": JobState.CANCELLING, "cancel_requested": True}
            session.execute(update(Job).where(Job.id == job_id).values(values))
            _append_state(session, job_id)
            return JobState.CANCELLING, None
        case JobState.CANCELLING | JobState.CANCELLED as state:
            return state, None
        case state:
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
    _append_state(session, job_id)
    return attempt


# ---- an attempt -------------------------------------------------------------------------------


def claim(session: Session, *, job_id: int, attempt: int, owner: str) -> Claim | None:
    """Take a queued job for one attempt; None if it is not waiting for that attempt."""
    taken = (
        update(Job)
        .where(Job.id == job_id, Job.attempt == attempt, Job.state == JobState.QUEUED)
        .values(
            epoch=Job.epoch + 1,
            owner=owner,
            state=JobState.RUNNING,
            started_at=func.coalesce(Job.started_at, func.now()),
        )
        .returning(Job.epoch)
    )
    epoch = session.execute(taken).scalar_one_or_none()
    if epoch is None:
        return None
    _append_state(session, job_id)
    return Claim(job_id=job_id, attempt=attempt, epoch=epoch)


def renew(session: Session, claim: Claim) -> bool:
    """Make sure that the claim still holds; returns whether the job is asked to stop."""
    mine = select(Job.cancel_requested).where(*_mine(claim))
    wanted = session.execute(mine).scalar_one_or_none()
    if wanted is None:
        raise _lost(claim)
    return wanted


def guard(session: Session, claim: Claim) -> None:
    """Hold the claim until the transaction ends: a takeover waits for it, or was before it."""
    mine = select(Job.id).where(*_mine(claim)).with_for_update(read=True)
    if session.execute(mine).scalar_one_or_none() is None:
        raise _lost(claim)


def fenced(scope: SessionScope, claim: Claim) -> SessionScope:
    """Transactions that commit only if the claim still holds at their end."""

    @contextmanager
    def fenced_scope() -> Iterator[Session]:
        with scope() as session:
            yield session
            guard(session, claim)

    return fenced_scope


def append_events(
    session: Session, claim: Claim, events: Sequence[tuple[EventKind, datetime, Payload]]
) -> None:
    """Add events of the attempt, and take the newest progress among them into the job's row."""
    progress = [payload for kind, _, payload in events if kind is EventKind.PROGRESS]
    values = {"progress": dict(progress[-1])} if progress else {}
    counted = update(Job).where(*_mine(claim)).values(last_seq=Job.last_seq + len(events), **values)
    last = session.execute(counted.returning(Job.last_seq)).scalar_one_or_none()
    if last is None:
        raise _lost(claim)
    _insert_events(session, claim.job_id, last, events)


def finish_item(session: Session, claim: Claim, *, key: str, result: JsonValue) -> None:
    """Record a finished item; the same key again replaces its result.

    A finished item proves that the job gets on, so earlier crashes are forgotten.
    """
    _put_item(session, claim, key=key, state="done", result=result)


def fail_item(session: Session, claim: Claim, *, key: str, error: JobFailure) -> None:
    """Record an item that failed; a later attempt does it again."""
    _put_item(session, claim, key=key, state="failed", result=asdict(error), code=error.code)


def finished_items(session: Session, job_id: int) -> dict[str, JsonValue]:
    """Results of the done items by key, of every attempt so far."""
    done = select(JobItem.key, JobItem.result).where(
        JobItem.job_id == job_id, JobItem.state == "done"
    )
    return {row.key: row.result for row in session.execute(done.order_by(JobItem.key))}


def count_crash(session: Session, claim: Claim) -> int:
    """Count a crash of the attempt; returns how many since the last finished item."""
    mine = update(Job).where(*_mine(claim)).values(crashes=Job.crashes + 1)
    crashes = session.execute(mine.returning(Job.crashes)).scalar_one_or_none()
    if crashes is None:
        raise _lost(claim)
    return crashes


def succeed(session: Session, claim: Claim, result: dict[str, JsonValue]) -> None:
    """End the job with its result."""
    guard(session, claim)
    _close(session, claim.job_id, JobState.SUCCEEDED, result=result)


def fail(session: Session, claim: Claim, error: JobFailure) -> None:
    """End the job with an error that a person has to look at."""
    guard(session, claim)
    _close(
        session,
        claim.job_id,
        JobState.FAILED,
        error_code=error.code,
        error_message=error.message,
        error_hint=error.hint or None,
    )


def cancelled(session: Session, claim: Claim) -> None:
    """End the job because it was asked to stop."""
    guard(session, claim)
    _close(session, claim.job_id, JobState.CANCELLED)


# ---- reading ----------------------------------------------------------------------------------


def list_jobs(
    session: Session,
    *,
    state: JobState | None = None,
    kind: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> tuple[JobCard, ...]:
    """Jobs, the newest first; ``before`` is the last job id of the page before."""
    query = select(*_CARD).order_by(Job.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if before is not None:
        query = query.where(Job.id < before)
    return tuple(_card(row) for row in session.execute(query))


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


def list_claims(session: Session) -> tuple[tuple[Claim, str], ...]:
    """Claims that are held now, each with its owner."""
    query = select(Job.id, Job.attempt, Job.epoch, Job.owner).where(
        Job.state.in_(_HELD), Job.owner.is_not(None)
    )
    return tuple(
        (Claim(job_id=row.id, attempt=row.attempt, epoch=row.epoch), row.owner)
        for row in session.execute(query)
    )


def claim_of(session: Session, *, job_id: int, attempt: int) -> Claim | None:
    """The claim that is held on an attempt, or None; its row stays locked."""
    query = select(Job.epoch).where(Job.id == job_id, Job.attempt == attempt, Job.state.in_(_HELD))
    epoch = session.execute(query.with_for_update()).scalar_one_or_none()
    return None if epoch is None else Claim(job_id=job_id, attempt=attempt, epoch=epoch)


def engine_job_of(session: Session, job_id: int) -> int | None:
    """The entry of the engine's queue that started the job last."""
    return session.execute(select(Job.engine_job_id).where(Job.id == job_id)).scalar_one_or_none()


def delete_job(session: Session, job_id: int) -> None:
    """Remove an ended job with its items and events."""
    if JobState(_lock(session, job_id).state) in {JobState.QUEUED, *_HELD}:
        raise Conflict(f"Job {job_id} has not ended.", hint="Cancel it first.")
    session.execute(delete(Job).where(Job.id == job_id))


# ---- parts ------------------------------------------------------------------------------------


def _mine(claim: Claim) -> tuple[Any, ...]:
    return (Job.id == claim.job_id, Job.epoch == claim.epoch, Job.state.in_(_HELD))


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(
        f"Attempt {claim.attempt} of job {claim.job_id} no longer holds its claim.",
        hint="Another attempt has taken the job over, or it has ended.",
    )


def _missing(job_id: int) -> NotFound:
    return NotFound(f"There is no job {job_id}.", hint="See the list of jobs.")


def _lock(session: Session, job_id: int) -> Row[Any]:
    query = select(Job.state, Job.engine_job_id).where(Job.id == job_id).with_for_update()
    row = session.execute(query).one_or_none()
    if row is None:
        raise _missing(job_id)
    return row


def _put_item(
    session: Session,
    claim: Claim,
    *,
    key: str,
    state: str,
    result: JsonValue,
    code: str | None = None,
) -> None:
    values = {"crashes": 0} if state == "done" else {"crashes": Job.crashes}
    mine = update(Job).where(*_mine(claim)).values(values).returning(Job.id)
    if session.execute(mine).scalar_one_or_none() is None:
        raise _lost(claim)
    changes = {"state": state, "result": result, "error_code": code, "finished_at": func.now()}
    row = upsert(JobItem).values(job_id=claim.job_id, key=key, **changes)
    session.execute(row.on_conflict_do_update(index_elements=["job_id", "key"], set_=changes))


def _close(session: Session, job_id: int, state: JobState, **values: Any) -> None:
    ended = update(Job).where(Job.id == job_id)
    session.execute(ended.values(state=state, owner=None, finished_at=func.now(), **values))
    _append_state(session, job_id)


def _append_state(session: Session, job_id: int) -> None:
    columns = (Job.state, Job.attempt, Job.error_code, Job.error_message, Job.error_hint)
    row = session.execute(select(*columns, func.now()).where(Job.id == job_id)).one()
    payload: dict[str, JsonValue] = {"state": row.state, "attempt": row.attempt}
    if row.state == JobState.FAILED:
        payload |= {"code": row.error_code, "message": row.error_message}
        payload["hint"] = row.error_hint
    counted = update(Job).where(Job.id == job_id).values(last_seq=Job.last_seq + 1)
    last = session.execute(counted.returning(Job.last_seq)).scalar_one()
    _insert_events(session, job_id, last, [(EventKind.STATE, row.now, payload)])


def _insert_events(
    session: Session,
    job_id: int,
    last: int,
    events: Sequence[tuple[EventKind, datetime, Payload]],
) -> None:
    first = last - len(events) + 1
    rows = [
        {"job_id": job_id, "seq": seq, "at": at, "kind": kind, "payload": dict(payload)}
        for seq, (kind, at, payload) in enumerate(events, start=first)
    ]
    session.execute(insert(JobEvent), rows)
    session.execute(select(func.pg_notify(EVENT_CHANNEL, str(job_id))))


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
    rows = [
        LogLine(seq=row.seq, at=row.at, level=row.payload["level"], text=row.payload["text"])
        for row in session.execute(query)
    ]
    return tuple(reversed(rows))


def _card(row: Row[Any]) -> JobCard:
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
