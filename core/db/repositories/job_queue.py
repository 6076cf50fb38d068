"""The engine's own tables, where our truth has to agree with them."""

from datetime import timedelta

from sqlalchemy import ColumnElement, Text, cast, column, exists, func, select, table
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.orm import Session

from core.db.models.job import Job
from core.domain.job import ACTIVE

_ENTRY = table("procrastinate_jobs", column("id"), column("status", Text))
_STATUS = ENUM(name="procrastinate_job_status", create_type=False)
_WORKER = table("procrastinate_workers", column("id"), column("last_heartbeat"))


def withdraw(session: Session, entry: int) -> None:
    """Take a waiting entry out of the engine's queue; one that is started stays."""
    session.execute(select(func.procrastinate_cancel_job_v1(entry, False, True)))


def retire(session: Session, entry: int) -> bool:
    """End an entry that a dead worker had started; False if it is not started or somebody does."""
    query = select(_ENTRY.c.id).where(_ENTRY.c.id == entry, _status().in_(("doing", "todo")))
    mine = session.execute(query.with_for_update(skip_locked=True)).scalar_one_or_none()
    if mine is None:
        return False
    ended = cast("failed", _STATUS)
    session.execute(select(func.procrastinate_finish_job_v1(entry, ended, True)))
    return True


def list_orphans(session: Session) -> tuple[tuple[int, int], ...]:
    """Active jobs, each with its attempt, that no entry of the engine's queue will bring on."""
    alive = select(_ENTRY.c.id).where(
        _ENTRY.c.id == Job.engine_job_id, _status().in_(("todo", "doing"))
    )
    query = select(Job.id, Job.attempt).where(Job.state.in_(ACTIVE), ~exists(alive))
    return tuple((row.id, row.attempt) for row in session.execute(query))


def has_live_worker(session: Session, *, within_seconds: float) -> bool:
    """Whether any worker's heart has beaten so recently."""
    since = func.now() - timedelta(seconds=within_seconds)
    beats = select(_WORKER.c.id).where(_WORKER.c.last_heartbeat > since)
    return bool(session.execute(select(exists(beats))).scalar_one())


def _status() -> ColumnElement[str]:
    return cast(_ENTRY.c.status, Text)
