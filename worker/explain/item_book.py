"""What a run has made, written many items at a time.

A transaction an item would cost more processor than the item's requests. An item counts as done
when it is written; one that was made and not yet written when a run dies is made again from the
answers that are stored, which costs nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from core.db.repositories import attempts, explanations, scores
from core.db.repositories.explanations import NewExplanation
from core.db.repositories.scores import NewScore
from core.db.session import Session
from core.domain.explanation import Choice
from core.domain.job import JobFailure
from core.errors import SparsightError
from worker.progress import JobContext

GATHER_SECONDS = 0.1
MOST_WAITING = 500  # made and not written yet; whoever makes more waits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """How each sample of one prompt did, by the id of its explanation."""

    choices: tuple[tuple[int, Choice], ...]


Made = NewExplanation | NewScore | Chosen | JobFailure

T = TypeVar("T")


class ItemBook:
    """The items of one round; leave it to be sure that everything is written.

    Args:
        job: whose items these are.
        on_written: called with the number of items after each write, from another thread.
    """

    def __init__(self, job: JobContext, *, on_written: Callable[[int], None]) -> None:
        self._job = job
        self._on_written = on_written
        self._waiting: dict[str, Made] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._writer: asyncio.Task[None] | None = None

    async def add(self, key: str, made: Made) -> None:
        """Keep what an item made, or why it failed; it is written soon.

        Raises:
            ClaimLost, DatabaseUnavailable, DiskFull: what was added before could not be written.
        """
        await self._room.wait()
        self.raise_error()
        self._waiting[key] = made
        if len(self._waiting) >= MOST_WAITING:
            self._room.clear()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_often())

    def raise_error(self) -> None:
        """Raise what kept items from being written."""
        if self._writer is not None and self._writer.done():
            self._writer.result()

    async def flush(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            await self._writer

    async def __aenter__(self) -> "ItemBook":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.flush()
        except SparsightError as late:
            if error is None:
                raise
            logger.info("The last items were not written: %s", late.message)

    async def _write_often(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_SECONDS)
                batch, self._waiting = self._waiting, {}
                self._room.set()
                await asyncio.to_thread(self._write, batch)
        finally:
            self._room.set()

    def _write(self, batch: dict[str, Made]) -> None:
        failed = {key: made for key, made in batch.items() if isinstance(made, JobFailure)}
        with self._job.scope() as session:
            _store(session, batch)
            attempts.finish_items(session, self._job.claim, batch.keys() - failed.keys())
            for key, failure in failed.items():
                attempts.fail_item(session, self._job.claim, key=key, error=failure)
        self._on_written(len(batch))


def _store(session: Session, batch: dict[str, Made]) -> None:
    made = batch.values()
    explanations.add_items(session, _only(made, NewExplanation))
    scores.add_items(session, _only(made, NewScore))
    for chosen in _only(made, Chosen):
        for explanation_id, choice in chosen.choices:
            explanations.set_choice(session, explanation_id, choice)


def _only(made: Iterable[Made], kind: type[T]) -> list[T]:
    return [one for one in made if isinstance(one, kind)]
