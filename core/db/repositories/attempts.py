"""What the attempt that holds a job may write.

Every write is fenced: it changes nothing and raises ClaimLost unless the job's epoch is still the
attempt's own.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from core.db.base import plain_table
from core.db.models.job import Job, JobEvent, JobItem
from core.db.repositories.job_events import Payload, append_state, close, insert_events
from core.db.session import SessionScope
from core.domain.job import Claim, EventKind, JobFailure, JobState
from core.errors import ClaimLost

_ITEM = upsert(plain_table(JobItem)).values(
    state="done", result=None, error_code=None, finished_at=func.now()
)
_FINISH = _ITEM.on_conflict_do_update(
    index_elements=["job_id", "key"],
    set_={name: _ITEM.excluded[name] for name in ("state", "result", "error_code", "finished_at")},
)

_HELD = (JobState.RUNNING, JobState.CANCELLING)


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
    append_state(session, job_id)
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
    """Transactions that commit only if the claim still holds at their end.

    They may sit still while the caller computes; the job's row is locked only for the commit.
    """

    @contextmanager
    def fenced_scope() -> Iterator[Session]:
        with scope() as session:
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            yield session
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '30s'"))
            guard(session, claim)

    return fenced_scope


def append_events(
    session: Session,
    claim: Claim,
    events: Sequence[tuple[EventKind, datetime, Payload]],
    *,
    each_step_once: bool = False,
) -> None:
    """Add events of the attempt, and take the newest progress among them into the job's row.

    Args:
        session: the transaction.
        claim: the attempt's.
        events: in order.
        each_step_once: the job's metrics come by ascending step, so that one whose step is not
            above the newest stored one was stored before and is left out.
    """
    if each_step_once:
        session.execute(select(Job.id).where(*_mine(claim)).with_for_update())
        events = _without_stored_steps(session, claim.job_id, events)
        if not events:
            return
    progress = [payload for kind, _, payload in events if kind is EventKind.PROGRESS]
    values = {"progress": dict(progress[-1])} if progress else {}
    counted = update(Job).where(*_mine(claim)).values(last_seq=Job.last_seq + len(events), **values)
    last = session.execute(counted.returning(Job.last_seq)).scalar_one_or_none()
    if last is None:
        raise _lost(claim)
    insert_events(session, claim.job_id, last, events)


def last_step(session: Session, job_id: int) -> int:
    """The step of the newest metric of a job; -1 before the first."""
    query = (
        select(JobEvent.payload)
        .where(JobEvent.job_id == job_id, JobEvent.kind == EventKind.METRIC)
        .order_by(JobEvent.seq.desc())
        .limit(1)
    )
    newest = session.execute(query).scalar_one_or_none()
    step = None if newest is None else newest.get("step")
    return step if isinstance(step, int) else -1


def finish_item(session: Session, claim: Claim, *, key: str, result: JsonValue) -> None:
    """Record a finished item; the same key again replaces its result.

    A finished item proves that the job gets on, so earlier crashes are forgotten.
    """
    _put_item(session, claim, key=key, state="done", result=result)


def finish_items(session: Session, claim: Claim, keys: Collection[str]) -> None:
    """Record many finished items that have no result of their own, as finish_item does each."""
    if not keys:
        return
    mine = update(Job).where(*_mine(claim)).values(crashes=0).returning(Job.id)
    if session.execute(mine).scalar_one_or_none() is None:
        raise _lost(claim)
    session.connection().execute(_FINISH, [{"job_id": claim.job_id, "key": key} for key in keys])


def fail_item(session: Session, claim: Claim, *, key: str, error: JobFailure) -> None:
    """Record an item that failed; a later attempt does it again."""
    _put_item(session, claim, key=key, state="failed", result=asdict(error), code=error.code)


def finished_items(session: Session, job_id: int) -> dict[str, JsonValue]:
    """Results of the done items by key, of every attempt so far."""
    done = select(JobItem.key, JobItem.result).where(
        JobItem.job_id == job_id, JobItem.state == "done"
    )
    return {row.key: row.result for row in session.execute(done.order_by(JobItem.key))}


def failed_items(session: Session, job_id: int) -> dict[str, str]:
    """Codes of the items that failed and were not done later, by key."""
    failed = select(JobItem.key, JobItem.error_code).where(
        JobItem.job_id == job_id, JobItem.state == "failed"
    )
    return {row.key: row.error_code or "" for row in session.execute(failed)}


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
    close(session, claim.job_id, JobState.SUCCEEDED, result=result)


def fail(session: Session, claim: Claim, error: JobFailure) -> None:
    """End the job with an error that a person has to look at."""
    guard(session, claim)
    close(
        session,
        claim.job_id,
        JobState.FAILED,
        error_code=error.code,
        error_message=error.message,
        error_hint=error.hint or None,
    )


def pause(session: Session, claim: Claim, reason: JobFailure) -> None:
    """Stop the job with a reason that a person can lift; finished items stay finished."""
    guard(session, claim)
    close(
        session,
        claim.job_id,
        JobState.PAUSED,
        error_code=reason.code,
        error_message=reason.message,
        error_hint=reason.hint or None,
    )


def cancelled(session: Session, claim: Claim) -> None:
    """End the job because it was asked to stop."""
    guard(session, claim)
    close(session, claim.job_id, JobState.CANCELLED)


def list_claims(session: Session) -> tuple[tuple[Claim, str], ...]:
    """Claims that are held now, each with its owner."""
    query = select(Job.id, Job.attempt, Job.epoch, Job.owner).where(
        Job.state.in_(_HELD), Job.owner.is_not(None)
    )
    return tuple(
        (Claim(job_id=row.id, attempt=row.attempt, epoch=row.epoch), row.owner)
        for row in session.execute(query)
    )


def lock_attempt(session: Session, *, job_id: int, attempt: int) -> tuple[JobState, Claim] | None:
    """State and claim of an attempt that waits or runs, else None; its row stays locked."""
    query = select(Job.state, Job.epoch).where(
        Job.id == job_id, Job.attempt == attempt, Job.state.in_((JobState.QUEUED, *_HELD))
    )
    row = session.execute(query.with_for_update()).one_or_none()
    if row is None:
        return None
    return JobState(row.state), Claim(job_id=job_id, attempt=attempt, epoch=row.epoch)


def _without_stored_steps(
    session: Session, job_id: int, events: Sequence[tuple[EventKind, datetime, Payload]]
) -> list[tuple[EventKind, datetime, Payload]]:
    last = last_step(session, job_id)
    kept = []
    for event in events:
        step = event[2].get("step")
        if event[0] is EventKind.METRIC and isinstance(step, int):
            if step <= last:
                continue
            last = step
        kept.append(event)
    return kept


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


def _mine(claim: Claim) -> tuple[Any, ...]:
    return (Job.id == claim.job_id, Job.epoch == claim.epoch, Job.state.in_(_HELD))


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(
        f"Attempt {claim.attempt} of job {claim.job_id} no longer holds its claim.",
        hint="Another attempt has taken the job over, or it has ended.",
    )
