"""Many pieces of work in one event loop, so many at once, stopped together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

_WATCH_SECONDS = 0.5

T = TypeVar("T")


async def side_by_side(
    items: Iterable[T],
    do: Callable[[T], Awaitable[None]],
    *,
    places: int,
    check: Callable[[], None],
) -> None:
    """Do every item, at most ``places`` at once; the first error stops all and is raised.

    Args:
        items: taken one by one, in order.
        do: the work on one item.
        places: items under way at once.
        check: called twice a second; what it raises stops the work.
    """
    waiting = iter(items)

    async def take() -> None:
        for item in waiting:
            await do(item)

    async def watch() -> None:
        while True:
            await asyncio.to_thread(check)
            await asyncio.sleep(_WATCH_SECONDS)

    watching = asyncio.create_task(watch())
    workers = [asyncio.create_task(take()) for _ in range(places)]
    try:
        ends: list[asyncio.Future[Any]] = [asyncio.gather(*workers), watching]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            await end
    finally:
        for task in (*workers, watching):
            task.cancel()
        await asyncio.gather(*workers, watching, return_exceptions=True)
