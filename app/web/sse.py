"""Streams of a job's page: new log lines and the present state, as fragments for htmx."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.sse import ServerSentEvent

from app.deps import Resources
from app.services import jobs
from app.web import i18n, render
from app.web.render import Here
from core.domain.job import EventKind, JobEvent, JobPage

POLL_SECONDS = 0.5
NAP_SECONDS = 0.1
EVENTS_A_LOOK = 500
CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A job at a moment, with what happened since the last look."""

    page: JobPage
    events: tuple[JobEvent, ...]

    @property
    def last_seq(self) -> int:
        """Number of the newest event of this look; 0 without one."""
        return self.events[-1].seq if self.events else 0


async def job_stream(
    resources: Resources, job_id: int, *, seq: int, here: Here
) -> AsyncIterator[ServerSentEvent]:
    """Fragments of a job's page as events come; the id of each message is its newest event's.

    A reader who comes back with the last id misses nothing. No session is held while waiting.
    """
    language = here.lang
    while not resources.stopping.is_set():
        look = await asyncio.to_thread(_look, resources, job_id, seq)
        if look.events:
            seq = look.last_seq
            i18n.current.set(language)
            html = render.fragment(
                "jobs/_live.html",
                {
                    "here": here,
                    "page": look.page,
                    "lines": [e for e in look.events if e.kind is EventKind.LOG],
                },
            )
            yield ServerSentEvent(raw_data=html, id=str(seq))
        elif look.page.card.active:
            await _nap(resources)
        else:
            yield ServerSentEvent(event=CLOSED, raw_data="")
            return


def _look(resources: Resources, job_id: int, seq: int) -> Look:
    """The state is read first, so that events after it are never lost."""
    with resources.scope() as session:
        page = jobs.get_job(session, job_id)
        events = jobs.events_after(session, job_id, seq=seq, limit=EVENTS_A_LOOK)
        return Look(page=page, events=events)


async def _nap(resources: Resources) -> None:
    """Waits until the next look is due, or the server stops."""
    waited = 0.0
    while waited < POLL_SECONDS and not resources.stopping.is_set():
        await asyncio.sleep(NAP_SECONDS)
        waited += NAP_SECONDS
