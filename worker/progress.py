"""What a handler sees of its job: progress, log, metrics, finished items, and when to stop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pydantic import JsonValue

from core.db.repositories import attempts
from core.db.session import SessionScope
from core.domain.job import Claim, EventKind, JobFailure, Progress
from core.domain.job_lines import line
from core.errors import Cancelled, ClaimLost, DatabaseUnavailable
from core.explaining.keys import KeyRing

RATE_WINDOW_SECONDS = 30.0
WRITE_SECONDS = 0.5  # least time between two writes of progress, metrics and log
CHECK_SECONDS = 1.0  # least time between two looks at whether to stop
MAX_LINES_A_WRITE = 200  # further lines of the log are counted, not stored
MAX_LINE_LENGTH = 4_000

_Pending = tuple[EventKind, datetime, dict[str, JsonValue]]
logger = logging.getLogger(__name__)


class RateMeter:
    """Units a second over the last half minute, counted from what this attempt found done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def add(self, done: int) -> float | None:
        """Note that ``done`` units are done; returns the rate, None until it is known.

        The first number is where the attempt starts, so resumed work never counts as speed. A
        number lower than the last one starts anew, as a new phase does.
        """
        now = self._clock()
        if self._points and done < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] >= RATE_WINDOW_SECONDS:
            self._points.popleft()
        start, base = self._points[0]
        if done == base or now - start < WRITE_SECONDS:
            return None
        return (done - base) / (now - start)


class JobContext:
    """One attempt's hold on its job; every write is fenced by the attempt's epoch.

    Attributes:
        work_dir: the job's own folder; it outlives attempts and crashes.
        cache_dir: where downloads are kept for all jobs.
        scope: transactions that commit only if the attempt still holds its claim at their end.
        open_scope: transactions for facts that stay true whoever holds the claim, such as an
            answer that was paid for.
        keys: opens API keys of endpoints; None where no job needs any.
        each_step_once: set by jobs whose metrics come by ascending step: a step that is stored
            is never stored again, whatever a crash left undone.
    """

    def __init__(
        self,
        *,
        claim: Claim,
        scope: SessionScope,
        work_dir: Path,
        cache_dir: Path,
        stop: threading.Event | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        self.claim = claim
        self.work_dir = work_dir
        self.cache_dir = cache_dir
        self.scope = attempts.fenced(scope, claim)
        self.open_scope = scope
        self.keys = keys
        self.each_step_once = False
        self._stop = stop or threading.Event()
        self._lock = threading.RLock()
        self._pending: deque[_Pending] = deque()
        self._progress: Progress | None = None
        self._sent: Progress | None = None
        self._lines_left_out = 0
        self._written = self._checked = 0.0
        self._meter = RateMeter()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_often, name="progress", daemon=True)

    @property
    def job_id(self) -> int:
        """Number of the job."""
        return self.claim.job_id

    @property
    def data_dir(self) -> Path:
        """Sparsight's data folder, which holds the jobs' folders as ``jobs/<number>``."""
        return self.work_dir.parents[1]

    def check(self) -> None:
        """Raise Cancelled if the job is to stop; cheap enough to be called for every batch."""
        if self._stop.is_set():
            raise Cancelled("The job was asked to stop.")
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        with self.open_scope() as session:
            wanted = attempts.renew(session, self.claim)
        if wanted:
            self._stop.set()
            raise Cancelled("The job was asked to stop.")

    def progress(self, *, done: int, total: int | None, unit: str, phase: str) -> None:
        """Say how far the job is; ``done`` counts work of earlier attempts too."""
        with self._lock:
            before = self._progress
            if before is None or (before.phase, before.unit) != (phase, unit):
                self._meter = RateMeter()
            rate = self._meter.add(done)
            left = None if total is None or not rate else max(0, total - done) / rate
            self._progress = Progress(
                done=done,
                total=total,
                unit=unit,
                rate=rate,
                remaining_seconds=left,
                phase=phase,
            )
        self._flush_if_due()

    def metric(self, step: int, **values: float) -> None:
        """Record numbers of one step, for charts."""
        payload: dict[str, JsonValue] = {"step": step, **values}
        self._add(EventKind.METRIC, payload)

    def log(self, text: str, level: str = "info") -> None:
        """Add a line of free text to the job's log."""
        self._add_line({"level": level.lower(), "text": text[:MAX_LINE_LENGTH]})

    def tell(self, kind: str, level: str = "info", /, **values: JsonValue) -> None:
        """Add a line of a known kind, which pages put into the reader's words."""
        self._add_line(line(kind, level, **values))

    def finished_items(self) -> dict[str, JsonValue]:
        """Results of the items that this or an earlier attempt has finished, by key."""
        with self.open_scope() as session:
            return attempts.finished_items(session, self.job_id)

    def finish_item(self, key: str, result: JsonValue) -> None:
        """Record a finished item in its own transaction; a repeated key replaces its result."""
        with self.open_scope() as session:
            attempts.finish_item(session, self.claim, key=key, result=result)

    def fail_item(self, key: str, error: JobFailure) -> None:
        """Record an item that failed; the next attempt does it again."""
        with self.open_scope() as session:
            attempts.fail_item(session, self.claim, key=key, error=error)

    def flush(self) -> None:
        """Write what is waiting."""
        with self._lock:
            events = self._take()
            self._written = time.monotonic()
            if not events:
                return
            try:
                with self.open_scope() as session:
                    attempts.append_events(
                        session, self.claim, events, each_step_once=self.each_step_once
                    )
            except DatabaseUnavailable:
                self._pending.extendleft(reversed(events))
                raise

    def __enter__(self) -> "JobContext":
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._flusher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._flusher.join()
        try:
            self.flush()
        except ClaimLost:
            logger.info("The last events of job %d were not written: claim lost.", self.job_id)

    def _add_line(self, payload: dict[str, JsonValue]) -> None:
        with self._lock:
            lines = sum(kind is EventKind.LOG for kind, _, _ in self._pending)
            if lines >= MAX_LINES_A_WRITE:
                self._lines_left_out += 1
                return
        self._add(EventKind.LOG, payload)

    def _add(self, kind: EventKind, payload: dict[str, JsonValue]) -> None:
        with self._lock:
            self._pending.append((kind, datetime.now(UTC), payload))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self.flush()

    def _take(self) -> list[_Pending]:
        events = list(self._pending)
        self._pending.clear()
        now = datetime.now(UTC)
        if self._lines_left_out:
            events.append((EventKind.LOG, now, line("lines_left_out", n=self._lines_left_out)))
            self._lines_left_out = 0
        if self._progress is not None and self._progress != self._sent:
            events.append((EventKind.PROGRESS, now, asdict(self._progress)))
            self._sent = self._progress
        return events

    def _flush_often(self) -> None:
        while not self._closed.wait(WRITE_SECONDS * 2):
            try:
                self.flush()
            except ClaimLost:
                self._stop.set()
                return
