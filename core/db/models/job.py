"""Tables of jobs: the job itself, its finished items, and its events."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import BigInteger, ForeignKey, Identity, Index, false, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class Job(Base):
    """A piece of work; the truth about it, whatever the engine believes."""

    __tablename__ = "job"
    __table_args__ = (
        Index(None, "state", "id"),
        Index(None, "kind", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    queue: Mapped[str]
    spec: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    owner: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=false())
    crashes: Mapped[int] = mapped_column(server_default=text("0"))
    progress: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    engine_job_id: Mapped[int | None] = mapped_column(BigInteger)
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_hint: Mapped[str | None]
    result: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)


class JobItem(Base):
    """A piece of a job; a done one is not done again by a later attempt, a failed one is."""

    __tablename__ = "job_item"

    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    result: Mapped[JsonValue | None] = mapped_column(JSONB)
    error_code: Mapped[str | None]
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class JobEvent(Base):
    """Progress, a metric, a line of the log or a change of state, numbered without gaps."""

    __tablename__ = "job_event"

    job_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    kind: Mapped[str]
    payload: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
