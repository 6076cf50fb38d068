"""A stream is woken when its job tells something, and by the clock when nobody can ring."""

import asyncio
import time

from app.services.jobs import jobs
from app.services.jobs.bell import JobBell
from core.db.session import SessionScope
from core.jobs import control
from tests.support.jobs import job_spec


def never() -> bool:
    return False


async def heard_after(bell: JobBell, job_id: int, act) -> float:
    """Seconds between an act in another thread and the ring."""
    with bell.listening(job_id) as ear:
        ear.clear()
        acted = asyncio.get_running_loop().run_in_executor(None, act)
        began = time.perf_counter()
        await ear.wait(never)
        await acted
        return time.perf_counter() - began


def test_events_of_a_job_ring_at_its_streams_only(database_url, session_scope: SessionScope):
    bell = JobBell()
    with session_scope() as session:
        mine, other = (control.submit(session, job_spec()) for _ in range(2))

    def cancel(job_id: int) -> None:
        with session_scope() as session:
            jobs.cancel(session, job_id)

    async def both() -> tuple[float, float]:
        while not bell.is_live:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.02)
        return (
            await heard_after(bell, mine, lambda: cancel(other)),
            await heard_after(bell, mine, lambda: cancel(mine)),
        )

    with bell.following(database_url):
        foreign, own = asyncio.run(both())
    assert own < 2 < foreign  # patience is 5 s


def test_without_a_connection_a_stream_looks_by_the_clock(session_scope: SessionScope):
    bell = JobBell()
    with session_scope() as session:
        job_id = control.submit(session, job_spec())

    async def ends() -> list[str]:
        events = jobs.event_stream(session_scope, job_id, bell=bell, stopping=never)
        first = await anext(events)
        with session_scope() as session:
            jobs.cancel(session, job_id)
        return [str(event.payload["state"]) for event in [first, *[e async for e in events]]]

    assert asyncio.run(ends()) == ["queued", "cancelled"]


def test_a_stopping_server_ends_the_wait(session_scope: SessionScope):
    async def waited() -> float:
        bell, began = JobBell(), time.perf_counter()
        with bell.listening(1) as ear:
            await ear.wait(lambda: time.perf_counter() - began > 0.15)
        return time.perf_counter() - began

    assert asyncio.run(waited()) < 0.45
