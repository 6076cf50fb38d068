"""Events of a job, numbered without gaps, and the changes of state that they tell.

The number comes from a counter in the job's row, which stays locked until the transaction ends;
numbers therefore have no gaps and become visible in order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from core.db.models.job import Job, JobEvent
from core.domain.job import EventKind, JobState

EVENT_CHANNEL = "sparsight_job_event"  # NOTIFY with the job's id whenever events were added

Payload = Mapping[str, JsonValue]


def close(session: Session, job_id: int, state: JobState, **values: Any) -> None:
    """End a job in a state, with values of further columns."""
    ended = update(Job).where(Job.id == job_id)
    session.execute(ended.values(state=state, owner=None, finished_at=func.now(), **values))
    append_state(session, job_id)


def append_state(session: Session, job_id: int) -> None:
    """Tell the job's present state as its next event."""
    columns = (Job.state, Job.attempt, Job.error_code, Job.error_message, Job.error_hint)
    row = session.execute(select(*columns, func.now()).where(Job.id == job_id)).one()
    payload: dict[str, JsonValue] = {"state": row.state, "attempt": row.attempt}
    if row.state in {JobState.FAILED, JobState.PAUSED}:
        payload |= {"code": row.error_code, "message": row.error_message}
        payload["hint"] = row.error_hint
    counted = update(Job).where(Job.id == job_id).values(last_seq=Job.last_seq + 1)
    last = session.execute(counted.returning(Job.last_seq)).scalar_one()
    insert_events(session, job_id, last, [(EventKind.STATE, row.now, payload)])


def insert_events(
    session: Session,
    job_id: int,
    last: int,
    events: Sequence[tuple[EventKind, datetime, Payload]],
) -> None:
    """Add events whose numbers end with ``last``, and wake whoever listens."""
    first = last - len(events) + 1
    rows = [
        {"job_id": job_id, "seq": seq, "at": at, "kind": kind, "payload": dict(payload)}
        for seq, (kind, at, payload) in enumerate(events, start=first)
    ]
    session.execute(insert(JobEvent), rows)
    session.execute(select(func.pg_notify(EVENT_CHANNEL, str(job_id))))
