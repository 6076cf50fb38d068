"""Jobs: what runs, how far it is, and telling it to stop or go on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

from app.services.jobs.bell import JobBell
from core.db.repositories import jobs
from core.db.session import Session, SessionScope
from core.domain.job import JobCard, JobEvent, JobPage, JobSlice, JobState
from core.domain.place import NewestPlace
from core.jobs import control

FINAL_STATES = frozenset({JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED})

_EVENTS_A_POLL = 500


def list_jobs(
    session: Session,
    *,
    state: JobState | None = None,
    kind: str | None = None,
    limit: int = 50,
) -> tuple[JobCard, ...]:
    """The newest jobs, the newest first."""
    return jobs.list_jobs(session, state=state, kind=kind, limit=limit)


def list_page(
    session: Session,
    *,
    place: NewestPlace,
    state: JobState | None = None,
    kinds: Collection[str] = (),
    limit: int = 50,
) -> JobSlice:
    """One page of jobs, the newest first."""
    return jobs.list_page(session, place=place, state=state, kinds=kinds, limit=limit)


def get_job(session: Session, job_id: int) -> JobPage:
    """One job.

    Raises:
        NotFound: no such job.
    """
    return jobs.get_job(session, job_id)


def cancel(session: Session, job_id: int) -> JobPage:
    """Asks a job to stop: a queued one stops at once, a running one after the item in hand.

    Raises:
        NotFound: no such job.
        Conflict: it has already ended.
    """
    control.request_cancel(session, job_id)
    return jobs.get_job(session, job_id)


def resume(session: Session, job_id: int) -> JobPage:
    """Starts a new attempt that skips what is finished.

    Raises:
        NotFound: no such job.
        Conflict: it is not cancelled, failed or paused.
    """
    control.resume(session, job_id)
    return jobs.get_job(session, job_id)


def events_after(
    session: Session, job_id: int, *, seq: int = 0, limit: int = 500
) -> tuple[JobEvent, ...]:
    """Events of a job with a number above seq, in order.

    Raises:
        NotFound: no such job.
    """
    jobs.get_card(session, job_id)
    return jobs.events_after(session, job_id, seq=seq, limit=limit)


async def event_stream(
    scope: SessionScope,
    job_id: int,
    *,
    seq: int = 0,
    bell: JobBell,
    stopping: Callable[[], bool],
) -> AsyncIterator[JobEvent]:
    """Events of a job as they come, until it is final and told, or the server stops.

    Each look opens a short session; none is held while the stream waits. Numbers go up without
    a gap, so that a reader who comes back with the last number misses nothing.
    """
    with bell.listening(job_id) as ear:
        while not stopping():
            ear.clear()
            batch, final = await asyncio.to_thread(_look, scope, job_id, seq)
            for event in batch:
                yield event
                seq = event.seq
            if final and not batch:
                return
            if not batch:
                await ear.wait(stopping)


def _look(scope: SessionScope, job_id: int, seq: int) -> tuple[tuple[JobEvent, ...], bool]:
    """New events, and whether the job was final before they were read."""
    with scope() as session:
        state = jobs.get_card(session, job_id).state
        return (
            jobs.events_after(session, job_id, seq=seq, limit=_EVENTS_A_POLL),
            state in FINAL_STATES,
        )
