"""Bodies about jobs and what happens in them."""

from datetime import datetime
from typing import Self

from pydantic import Field, JsonValue

from app.api.schemas.base import Schema
from core.domain.job import EventKind, JobCard, JobPage, JobQueue, JobState


class ProgressBody(Schema):
    """How far a job is."""

    done: int = Field(description="Units done, earlier attempts included.", examples=[1_024])
    total: int | None = Field(description="Units in all; null while unknown.", examples=[2_400])
    unit: str = Field(description="What is counted.", examples=["contexts"])
    rate: float | None = Field(description="Units a second; null while unknown.", examples=[11.2])
    remaining_seconds: float | None = Field(
        description="Time left at that rate; null while unknown.", examples=[123.0]
    )
    phase: str = Field(description="What is being done now.", examples=["read"])
    fraction: float | None = Field(
        description="Share done, in [0, 1]; null while unknown.", examples=[0.427]
    )


class JobErrorBody(Schema):
    """Why a job failed."""

    code: str = Field(description="Stable name of the kind of error.", examples=["sae_mismatch"])
    message: str = Field(
        description="What happened.", examples=["The SAE reads 2304 numbers, the model has 576."]
    )
    hint: str = Field(description="How to mend it; may be empty.", examples=["Choose another SAE."])


class JobBody(Schema):
    """A job."""

    job_id: int = Field(description="Number of the job.", examples=[7])
    kind: str = Field(description="What kind of work it is.", examples=["harvest"])
    title: str = Field(
        description="What it does.", examples=["Harvest smollm2-135m-instruct over demo-harvest"]
    )
    state: JobState = Field(
        description="cancelling: asked to stop, still ending; then cancelled.", examples=["running"]
    )
    attempt: int = Field(description="Number of the present or last attempt.", examples=[1])
    progress: ProgressBody | None = Field(description="How far it is; null before it starts.")
    created_at: datetime = Field(
        description="When it was queued.", examples=["2026-11-20T10:00:00Z"]
    )
    started_at: datetime | None = Field(
        description="When it was started; null before.", examples=["2026-11-20T10:00:01Z"]
    )
    finished_at: datetime | None = Field(
        description="When it ended; null before.", examples=["2026-11-20T10:03:20Z"]
    )
    error: JobErrorBody | None = Field(description="Why it failed; null if it did not.")
    result: dict[str, JsonValue] | None = Field(
        description="What came out; null before it succeeds.", examples=[{"harvest_id": 3}]
    )
    can_cancel: bool = Field(description="Whether it may be cancelled.", examples=[True])
    can_resume: bool = Field(description="Whether it may be resumed.", examples=[False])

    @classmethod
    def of(cls, card: JobCard) -> Self:
        """The body of a job."""
        error = None
        if card.error_code is not None:
            error = JobErrorBody(
                code=card.error_code, message=card.error_message or "", hint=card.error_hint or ""
            )
        progress = None if card.progress is None else ProgressBody.model_validate(card.progress)
        return cls(
            job_id=card.job_id,
            kind=card.kind,
            title=card.title,
            state=card.state,
            attempt=card.attempt,
            progress=progress,
            created_at=card.created_at,
            started_at=card.started_at,
            finished_at=card.finished_at,
            error=error,
            result=card.result,
            can_cancel=card.can_cancel,
            can_resume=card.can_resume,
        )


class JobList(Schema):
    """One page of the jobs."""

    jobs: list[JobBody] = Field(description="The newest first.")
    previous_after: int | None = Field(
        description="Value of after for the page before; null on the first.", examples=[9]
    )
    next_before: int | None = Field(
        description="Value of before for the next page; null on the last.", examples=[7]
    )


class LogLineBody(Schema):
    """One line of a job's log."""

    seq: int = Field(description="Number of its event.", examples=[12])
    at: datetime = Field(description="When.", examples=["2026-11-20T10:00:05Z"])
    level: str = Field(description="info, warning or error.", examples=["info"])
    text: str = Field(
        description="What was said, in English.", examples=["1,200 more lines left out"]
    )
    line: str | None = Field(
        description="Kind of a line that programs know; null for free text.",
        examples=["lines_left_out"],
    )
    values: dict[str, JsonValue] = Field(
        description="What stands in a line of that kind.", examples=[{"n": 1_200}]
    )


class JobDetail(Schema):
    """A job with its settings and the end of its log."""

    job: JobBody = Field(description="The job.")
    queue: JobQueue = Field(description="Resource that it needs.", examples=["gpu"])
    spec: dict[str, JsonValue] = Field(
        description="Settings as they were submitted.", examples=[{"kind": "harvest"}]
    )
    created_by: str | None = Field(description="Who submitted it.", examples=[None])
    last_seq: int = Field(
        description="Newest event contained here; ask for events after it.", examples=[42]
    )
    items_done: int = Field(description="Finished items, e.g. shards.", examples=[2])
    log: list[LogLineBody] = Field(description="The newest lines, the oldest first.")

    @classmethod
    def of(cls, page: JobPage) -> Self:
        """The body of a job's page."""
        return cls(
            job=JobBody.of(page.card),
            queue=page.queue,
            spec=page.spec,
            created_by=page.created_by,
            last_seq=page.last_seq,
            items_done=page.items_done,
            log=[LogLineBody.model_validate(line) for line in page.log],
        )


class EventBody(Schema):
    """Something that happened in a job."""

    seq: int = Field(description="Number in its job, from 1, without gaps.", examples=[43])
    at: datetime = Field(description="When.", examples=["2026-11-20T10:00:05Z"])
    kind: EventKind = Field(description="What it tells.", examples=["progress"])
    payload: dict[str, JsonValue] = Field(
        description="progress: the fields of a job's progress. metric: step, and numbers by name. "
        "log: level and text. state: state and attempt; for a failure also code, message, hint.",
        examples=[{"done": 1_024, "total": 2_400, "unit": "contexts", "phase": "read"}],
    )


class EventPage(Schema):
    """Events of a job."""

    events: list[EventBody] = Field(description="In order.")
    last_seq: int = Field(
        description="Number of the last one here, or what was asked after.", examples=[43]
    )
