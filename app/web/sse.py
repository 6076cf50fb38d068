"""Streams of a job's page: what happened, as fragments for htmx and rows for curves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from fastapi.sse import ServerSentEvent

from app.deps import Resources
from app.services.jobs import jobs
from app.services.jobs import speed as job_speed
from app.services.jobs.metric_history import MetricTable
from app.web import i18n, render
from app.web.render import Here
from core.db.session import Session
from core.domain.job import EventKind, JobEvent, JobPage

EVENTS_A_LOOK = 500
CLOSED = "closed"
ROWS = "rows"  # an event that curves listen to


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A job at a moment, with what happened since the last look."""

    page: JobPage
    events: tuple[JobEvent, ...]

    @property
    def last_seq(self) -> int:
        """Number of the newest event of this look; 0 without one."""
        return self.events[-1].seq if self.events else 0


Tell = Callable[[Session, Look, Here], list[ServerSentEvent]]


async def job_stream(
    resources: Resources, job_id: int, *, seq: int, here: Here, tell: Tell | None = None
) -> AsyncIterator[ServerSentEvent]:
    """Messages about a job as events come; the id of the last of each look is its newest event's.

    A reader who comes back with the last id misses nothing, but may hear rows of curves again.
    No session is held while waiting.

    Args:
        resources: the database, and whether the server stops.
        job_id: which one.
        seq: the newest event that the reader knows.
        here: the page; gives the language.
        tell: what is said of a look that holds events, in its session; the fragments of the job's
            own page by default.
    """
    with resources.bell.listening(job_id) as ear:
        while not resources.stopping.is_set():
            i18n.current.set(here.lang)
            ear.clear()
            look, messages = await asyncio.to_thread(
                _look, resources, job_id, seq, here, tell or job_messages
            )
            if look.events:
                seq = look.last_seq
                for message in messages[:-1]:
                    yield message
                yield messages[-1].model_copy(update={"id": str(seq)})
            elif look.page.card.active:
                await ear.wait(resources.stopping.is_set)
            else:
                yield ServerSentEvent(event=CLOSED, raw_data="")
                return


def job_messages(session: Session, look: Look, here: Here) -> list[ServerSentEvent]:
    """Speed and progress for the curves, then the state and new lines of the log."""
    table = job_speed.speed_table(session, look.page.card, look.events)
    html = render.fragment(
        "jobs/_live.html", {"here": here, "page": look.page, "lines": log_lines(look)}
    )
    said = [ServerSentEvent(raw_data=html)]
    return [rows_message({"run": table}), *said] if table.n_rows else said


def log_lines(look: Look) -> list[JobEvent]:
    """New lines of the log."""
    return [event for event in look.events if event.kind is EventKind.LOG]


def rows_message(tables: Mapping[str, MetricTable]) -> ServerSentEvent:
    """New rows for the curves of a page, by the key of each table."""
    data = {key: table.json() for key, table in tables.items()}
    return ServerSentEvent(event=ROWS, raw_data=json.dumps(data))


def _look(
    resources: Resources, job_id: int, seq: int, here: Here, tell: Tell
) -> tuple[Look, list[ServerSentEvent]]:
    """The state is read first, so that events after it are never lost.

    Where there are events it is read again after them: the last of them may tell of a state that
    was not yet there, and no event would come after it to show it.
    """
    with resources.scope() as session:
        page = jobs.get_job(session, job_id)
        events = jobs.events_after(session, job_id, seq=seq, limit=EVENTS_A_LOOK)
        if events:
            page = jobs.get_job(session, job_id)
        look = Look(page=page, events=events)
        return look, tell(session, look, here) if events else []
