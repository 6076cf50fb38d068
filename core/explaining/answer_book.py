"""The database behind a client: raw answers kept at once, and a row for every request.

Threads read and write in batches, so that the event loop never waits for the database and a
hundred answers cost little more than one. An answer can be read back as soon as it was put. It is
committed at once, or, when answers come so fast that a write has just begun, EVERY_SECONDS after
it with all that came meanwhile: a transaction each would cost more processor than the requests
themselves. A crash loses what waits here, as it loses the answers that are on their way.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence

from core.db.repositories import answers
from core.db.session import SessionScope
from core.errors import SparsightError
from core.llm.ledger import Ledger, LedgerRow

EVERY_SECONDS = 0.02  # least time from one write's begin to the next
_LINGER_SECONDS = 0.005  # questions of one plan, and of plans made together, are looked up together

_Rows = list[tuple[int | None, LedgerRow]]


class AnswerBook:
    """Replies and ledger of one run; close it to be sure that everything is written.

    Args:
        scope: transactions that need no claim on a job: what was paid for stays true.
        job_id: whose requests these are; None for a page's own.
    """

    def __init__(self, scope: SessionScope, *, job_id: int | None) -> None:
        self._scope = scope
        self._job_id = job_id
        self._lock = threading.Lock()
        self._replies: dict[str, str] = {}
        self._writing: dict[str, str] = {}
        self._rows: _Rows = []
        self._wanted: dict[str, asyncio.Future[str | None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._more = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_often, name="answers", daemon=True)
        self._writer.start()

    async def find(self, key: str) -> str | None:
        """The stored text of this key; None when there is none.

        Raises:
            DatabaseUnavailable: it could not be read.
        """
        with self._lock:
            fresh = self._replies.get(key) or self._writing.get(key)
        if fresh is not None:
            return fresh
        wanted = self._wanted.setdefault(key, asyncio.get_running_loop().create_future())
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_often())
        return await asyncio.shield(wanted)

    def put(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already keeps its first text."""
        with self._lock:
            self._raise_error()
            self._replies.setdefault(key, text)
        self._more.set()

    def add(self, row: LedgerRow, *, endpoint_id: int | None) -> None:
        """Keep a row of the ledger."""
        with self._lock:
            self._rows.append((endpoint_id, row))
        self._more.set()

    def ledger(self, endpoint_id: int | None) -> Ledger:
        """The ledger of one endpoint."""
        return EndpointLedger(self, endpoint_id)

    def close(self) -> None:
        """Write what is left.

        Raises:
            DatabaseUnavailable, DiskFull: something could not be written.
        """
        self._closing.set()
        self._more.set()
        self._writer.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    async def _read_often(self) -> None:
        """Look up what is wanted until nothing is; what comes in meanwhile is the next batch."""
        while self._wanted:
            await asyncio.sleep(_LINGER_SECONDS)
            batch, self._wanted = self._wanted, {}
            try:
                found = await asyncio.to_thread(self._read, tuple(batch))
            except SparsightError as error:
                _fail(batch.values(), error)
                continue
            for key, future in batch.items():
                if not future.done():
                    future.set_result(found.get(key))

    def _read(self, keys: Sequence[str]) -> dict[str, str]:
        with self._scope() as session:
            return answers.get_replies(session, keys)

    def _write_often(self) -> None:
        began = 0.0
        while not self._closing.is_set():
            self._more.wait()
            self._closing.wait(max(0.0, began + EVERY_SECONDS - time.monotonic()))
            began = time.monotonic()
            self._more.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            self._writing, self._replies = self._replies, {}
            rows, self._rows = self._rows, []
        try:
            with self._scope() as session:
                answers.put_replies(session, self._writing)
                answers.add_rows(session, rows, job_id=self._job_id)
        except Exception as error:  # noqa: BLE001 - told to whoever puts or closes next
            self._error = error
        with self._lock:
            self._writing = {}


class EndpointLedger:
    """The part of a book's ledger that belongs to one endpoint."""

    def __init__(self, book: AnswerBook, endpoint_id: int | None) -> None:
        self._book = book
        self._endpoint_id = endpoint_id

    def add(self, row: LedgerRow) -> None:
        """Keep one row."""
        self._book.add(row, endpoint_id=self._endpoint_id)


def _fail(waiting: Iterable[asyncio.Future[str | None]], error: SparsightError) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waited may be gone
