"""The gate of one endpoint: how many requests are under way, and when none may start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Bounds the requests under way; share one among all clients of an address.

    When a server asks to wait, every request waits, not only the one that was told.
    """

    def __init__(self, concurrency: int) -> None:
        self._places = asyncio.Semaphore(concurrency)
        self._closed_until = 0.0

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """A place among the requests under way."""
        async with self._places:
            while (wait := self._closed_until - _now()) > 0:  # noqa: ASYNC110 - it may move on
                await asyncio.sleep(wait)
            yield

    def close_for(self, seconds: float) -> None:
        """Let nobody in for so long."""
        until = _now() + seconds
        self._closed_until = max(self._closed_until, until)


def _now() -> float:
    return asyncio.get_running_loop().time()
