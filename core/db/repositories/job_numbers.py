"""Numbers of runs, read from the events and items of their jobs."""

from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue
from sqlalchemy import select, true
from sqlalchemy.orm import Session

from core.db.models.job import Job, JobEvent, JobItem
from core.domain.job import EventKind
from core.domain.job import JobEvent as Event


def events_of_kind(
    session: Session, job_id: int, kind: EventKind, *, after: int = 0
) -> tuple[Event, ...]:
    """Events of one kind with a number above ``after``, in order."""
    query = (
        select(JobEvent.seq, JobEvent.at, JobEvent.payload)
        .where(JobEvent.job_id == job_id, JobEvent.kind == kind, JobEvent.seq > after)
        .order_by(JobEvent.seq)
    )
    return tuple(
        Event(seq=row.seq, at=row.at, kind=kind, payload=row.payload)
        for row in session.execute(query)
    )


def first_of_kind(session: Session, job_id: int, kind: EventKind) -> Event | None:
    """The first event of a kind; None before it comes."""
    query = (
        select(JobEvent.seq, JobEvent.at, JobEvent.payload)
        .where(JobEvent.job_id == job_id, JobEvent.kind == kind)
        .order_by(JobEvent.seq)
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else Event(seq=row.seq, at=row.at, kind=kind, payload=row.payload)


def metric_with(
    session: Session, job_ids: Sequence[int], name: str, *, newest: bool
) -> dict[int, dict[str, JsonValue]]:
    """The newest or the first metric of each job that holds a number of this name.

    Jobs without one are absent.
    """
    order = JobEvent.seq.desc() if newest else JobEvent.seq
    found = (
        select(JobEvent.payload)
        .where(
            JobEvent.job_id == Job.id,
            JobEvent.kind == EventKind.METRIC,
            JobEvent.payload.has_key(name),
        )
        .order_by(order)
        .limit(1)
        .lateral()
    )
    query = select(Job.id, found.c.payload).where(Job.id.in_(list(job_ids)))
    rows: Any = session.execute(query.join_from(Job, found, onclause=true()))
    return {row.id: row.payload for row in rows}


def specs(session: Session, job_ids: Sequence[int]) -> dict[int, dict[str, JsonValue]]:
    """Settings of jobs as they were submitted."""
    query = select(Job.id, Job.spec).where(Job.id.in_(list(job_ids)))
    return {row.id: row.spec for row in session.execute(query)}


def item_result(session: Session, job_id: int, key: str) -> JsonValue:
    """The result of a finished item; None without one."""
    query = select(JobItem.result).where(
        JobItem.job_id == job_id, JobItem.key == key, JobItem.state == "done"
    )
    return session.execute(query).scalar_one_or_none()
