"""Waking streams when a job has told something, by one LISTEN connection a web process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from core.db.listen import notifications
from core.db.repositories.job_events import EVENT_CHANNEL

_PATIENCE_SECONDS = 5.0  # a look without being woken, in case a ring was missed
_DEAF_PATIENCE_SECONDS = 0.5  # the same while the connection is lost
_STOP_SECONDS = 0.1  # between two looks whether the server stops


class Ear:
    """A stream's end of the bell."""

    def __init__(self, is_live: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._is_live = is_live

    def clear(self) -> None:
        """Forget earlier rings; to be called before a look, so that none after it is lost."""
        self._rung.clear()

    def ring(self) -> None:
        """Wake the stream; from any thread."""
        with suppress(RuntimeError):  # its loop may just have closed
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, stopping: Callable[[], bool]) -> None:
        """Wait for a ring, for the patience to end, or for the server to stop."""
        patience = _PATIENCE_SECONDS if self._is_live() else _DEAF_PATIENCE_SECONDS
        waited = 0.0
        while waited < patience and not stopping():
            try:
                await asyncio.wait_for(self._rung.wait(), _STOP_SECONDS)
            except TimeoutError:
                waited += _STOP_SECONDS
            else:
                return


class JobBell:
    """Rings at the streams of a job; without a connection they look by the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[int, set[Ear]] = {}
        self._live = False

    @property
    def is_live(self) -> bool:
        """Whether the database would be heard."""
        return self._live

    @contextmanager
    def following(self, url: str) -> Iterator[None]:
        """Ring whenever the database tells of new events, until the end of the block."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._follow, args=(url, stopping), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    @contextmanager
    def listening(self, job_id: int) -> Iterator[Ear]:
        """An ear for one job's events, inside a running event loop."""
        ear = Ear(lambda: self._live)
        with self._lock:
            self._ears.setdefault(job_id, set()).add(ear)
        try:
            yield ear
        finally:
            with self._lock:
                self._ears[job_id].discard(ear)
                if not self._ears[job_id]:
                    del self._ears[job_id]

    def _follow(self, url: str, stopping: threading.Event) -> None:
        for payload in notifications(
            url, EVENT_CHANNEL, stopping=stopping, on_state=self._set_live
        ):
            self._ring(int(payload))

    def _ring(self, job_id: int) -> None:
        with self._lock:
            for ear in self._ears.get(job_id, ()):
                ear.ring()

    def _set_live(self, live: bool) -> None:
        self._live = live
