"""One attempt as the worker sees it: claim the job, start a runner, keep its lifeline, clean up."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.db.repositories import attempts
from core.db.session import SessionScope
from core.domain.job import Claim, JobState
from core.errors import ClaimLost, DatabaseUnavailable
from core.jobs.recovery import Crash, recover, release
from core.jobs.timing import Timing
from worker.lifeline import kill_descendants
from worker.oom import out_of_memory_kills

EXIT_STOPPED = 75
EXIT_CLAIM_LOST = 76
EXIT_DATABASE = 77
LOOK_SECONDS = 0.1
# libgomp's threads wait in a loop by default; where others use the cores too, each waits for one
# that is not running, and small operations take several times as long. Idle machines lose nothing.
SHARING = {"GOMP_SPINCOUNT": "1000"}
FAREWELL_SECONDS = 3.0  # for a runner whose claim has ended to leave by itself

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """What a worker has for its attempts.

    Attributes:
        command: starts a runner; ``--job`` and ``--epoch`` are added.
        setup: what the runner reads from stdin beside its attempt, as JSON values.
        stopping: set when the worker is asked to end.
        fenced: set when a claim could not be renewed, so that the worker must end.
    """

    scope: SessionScope
    owner: str
    timing: Timing
    command: Sequence[str]
    setup: Mapping[str, str | float | bool]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    fenced: asyncio.Event = field(default_factory=asyncio.Event)


async def run_attempt(station: Station, *, job_id: int, attempt: int) -> None:
    """Run one attempt to its end, or find that it is not to be run."""
    claim = await asyncio.to_thread(_claim, station, job_id, attempt)
    if claim is None:
        logger.info("Attempt %d of job %d is not waiting any more.", attempt, job_id)
        return
    if station.stopping.is_set():
        await asyncio.to_thread(_settle, station.scope, claim, None)
        return
    kills_before = out_of_memory_kills()
    runner = Runner(station, claim)
    code = await runner.watch()
    crash = _crash_of(code, asked=runner.asked, more_kills=out_of_memory_kills() > kills_before)
    if code != 0:
        logger.info("The runner of job %d ended with %d.", job_id, code)
    if code != EXIT_CLAIM_LOST and not station.fenced.is_set():
        await asyncio.to_thread(_settle, station.scope, claim, crash)


class Runner:
    """A runner process and the lifeline to it."""

    def __init__(self, station: Station, claim: Claim) -> None:
        self._station = station
        self._claim = claim
        self._deadline: float | None = None
        self._renewed = time.monotonic()
        self.asked = False
        words = ["--job", str(claim.job_id), "--epoch", str(claim.epoch)]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [*station.command, *words],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**SHARING, **os.environ},  # noqa: TID251 - a child's
        )

    async def watch(self) -> int:
        """Keep the lifeline until the runner has ended; returns its exit code."""
        self._send(_first_line(self._station, self._claim))
        renewing = asyncio.create_task(self._renew_often())
        try:
            while (code := self._process.poll()) is None:
                await asyncio.sleep(LOOK_SECONDS)
                self._enforce()
        finally:
            renewing.cancel()
            self._clean_up()
        return code

    def _enforce(self) -> None:
        """Stop the runner when it has to stop, by force when its time is up."""
        now = time.monotonic()
        if now - self._renewed > self._station.timing.fence and not self._station.fenced.is_set():
            logger.error("Job %d: the claim cannot be renewed; stopping.", self._claim.job_id)
            self._station.fenced.set()
            self._ask_to_stop(0.0)
        if self._station.stopping.is_set() and not self.asked:
            self._ask_to_stop(self._station.timing.grace)
        if self._deadline is not None and now > self._deadline:
            self._kill()

    def _ask_to_stop(self, grace: float) -> None:
        """End of file on the lifeline asks; the deadline forces."""
        self.asked = True
        self._set_deadline(grace)
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()

    def _set_deadline(self, grace: float) -> None:
        """The earliest of the deadlines counts: a worker that ends waits less than a person."""
        deadline = time.monotonic() + grace
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    async def _renew_often(self) -> None:
        while True:
            asked_at = time.monotonic()
            try:
                if await asyncio.to_thread(_renew, self._station.scope, self._claim):
                    # The job sees the request by itself.
                    self._set_deadline(self._station.timing.patience)
                self._renewed = asked_at
                self._send(b".")
            except ClaimLost:
                if self._process.poll() is None:
                    self._set_deadline(FAREWELL_SECONDS)  # it may just have written its end
                self._renewed = asked_at
            except DatabaseUnavailable as error:
                logger.warning("Job %d: %s", self._claim.job_id, error)
            await asyncio.sleep(self._station.timing.renew)

    def _send(self, data: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            return
        os.set_blocking(stdin.fileno(), False)
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(stdin.fileno(), data)

    def _kill(self) -> None:
        kill_descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _clean_up(self) -> None:
        """Nothing of the runner's session outlives it."""
        if self._process.poll() is None:
            self._kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()


def _first_line(station: Station, claim: Claim) -> bytes:
    return json.dumps({**station.setup, "attempt": claim.attempt}).encode() + b"\n"


def _claim(station: Station, job_id: int, attempt: int) -> Claim | None:
    with station.scope() as session:
        return attempts.claim(session, job_id=job_id, attempt=attempt, owner=station.owner)


def _renew(scope: SessionScope, claim: Claim) -> bool:
    with scope() as session:
        return attempts.renew(session, claim)


def _crash_of(code: int, *, asked: bool, more_kills: bool) -> Crash | None:
    """What an exit code means; None for an end that is no crash."""
    if code == 0 or asked:
        return None
    if code == EXIT_DATABASE:
        return Crash.DATABASE_LOST
    if code in {-signal.SIGKILL, 128 + signal.SIGKILL}:
        return Crash.OUT_OF_MEMORY if more_kills else Crash.KILLED
    return Crash.KILLED if code in {EXIT_STOPPED, -signal.SIGTERM} else Crash.CRASHED


def _settle(scope: SessionScope, claim: Claim, crash: Crash | None) -> None:
    """Decide what follows, unless the runner has written how the job ended."""
    try:
        with scope() as session:
            if crash is None:
                release(session, claim)
            elif recover(session, claim, crash) is JobState.FAILED:
                logger.error("Job %d failed: %s", claim.job_id, crash.value.message)
    except ClaimLost:
        logger.debug("Job %d has ended.", claim.job_id)
