"""The process of one attempt: ``python -m worker.runner --job 7 --epoch 3``.

Started by the worker, in a session of its own. The first line of stdin is a JSON object with the
fields of Setup; every further byte says that the worker's claim still holds.

Exit codes: 0 the job's end is written; 75 stopped before the end; 76 the claim is lost; 77 the
database is away; anything else is a crash.
"""

import argparse
import errno
import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, JsonValue, SecretStr

from core.db.repositories import attempts, jobs
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.job import Claim, JobFailure, JobSpec, parse_spec
from core.domain.job_lines import KINDS
from core.errors import (
    Cancelled,
    ClaimLost,
    DatabaseUnavailable,
    DiskFull,
    OutOfMemory,
    Paused,
    SparsightError,
)
from core.explaining.keys import KeyRing
from core.log import about, configure_logging, without_secrets
from worker.handlers import run_job
from worker.lifeline import Lifeline, become_subreaper
from worker.progress import JobContext

EXIT_STOPPED = 75
EXIT_CLAIM_LOST = 76
EXIT_DATABASE = 77
LOCK_SECONDS = 60.0  # how long an earlier attempt may take to leave the job's folder

Handler = Callable[[JobSpec, JobContext], dict[str, JsonValue]]

logger = logging.getLogger(__name__)


class Setup(BaseModel):
    """What the worker tells its runner; over stdin, since a command line can be read by all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str
    data_dir: Path
    cache_dir: Path
    attempt: int
    silence: float
    grace: float
    log_level: str
    log_json: bool
    secret_key: SecretStr | None = None


class JobLog(logging.Handler):
    """Copies our own log lines of level INFO and above into the job's log."""

    def __init__(self, job: JobContext) -> None:
        super().__init__(logging.INFO)
        self._job = job

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line, of its kind if it has one; a lost claim is found by the job itself."""
        kind = KINDS.get(str(record.msg))
        try:
            if kind is not None and isinstance(record.args, Mapping):
                self._job.tell(kind, record.levelname.lower(), **_plain(record.args))
            else:
                self._job.log(without_secrets(record.getMessage()), level=record.levelname)
        except (ClaimLost, DatabaseUnavailable):
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Stay silent: the line is on stderr too."""


def _plain(values: Mapping[str, object]) -> dict[str, JsonValue]:
    return {
        name: value if isinstance(value, int) else without_secrets(str(value))
        for name, value in values.items()
    }


def main(handler: Handler = run_job) -> int:
    """Run the attempt that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(description="Runs one attempt of a job.")
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    arguments = parser.parse_args()
    setup = Setup.model_validate_json(_first_line(sys.stdin.fileno()))
    become_subreaper()
    configure_logging(level=setup.log_level, json_lines=setup.log_json)
    claim = Claim(job_id=arguments.job, attempt=setup.attempt, epoch=arguments.epoch)
    stop = threading.Event()
    lifeline = Lifeline(fd=sys.stdin.fileno(), stop=stop, silence=setup.silence, grace=setup.grace)
    lifeline.start()
    engine = make_engine(setup.database_url, pool_size=4)
    with about(job=claim.job_id):
        code = run_attempt(setup, claim, scope=session_scope(engine), stop=stop, handler=handler)
    lifeline.let_go()
    engine.dispose()
    return code


def run_attempt(
    setup: Setup, claim: Claim, *, scope: SessionScope, stop: threading.Event, handler: Handler
) -> int:
    """Do the job and write how it ended; returns the exit code."""
    job = JobContext(
        claim=claim,
        scope=scope,
        work_dir=setup.data_dir / "jobs" / str(claim.job_id),
        cache_dir=setup.cache_dir,
        stop=stop,
        keys=KeyRing(
            secret_key=setup.secret_key,
            data_dir=setup.data_dir,
            environment=os.environ,  # noqa: TID251 - endpoints name variables that hold keys
        ),
    )
    try:
        with _alone_in(job.work_dir, stop):
            return _run(job, scope, handler)
    except ClaimLost:
        return EXIT_CLAIM_LOST
    except DatabaseUnavailable as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
        return EXIT_DATABASE
    except Cancelled:
        return EXIT_STOPPED


def _run(job: JobContext, scope: SessionScope, handler: Handler) -> int:
    claim = job.claim
    try:
        with job, _copied_log(job):
            with scope() as session:
                spec = parse_spec(jobs.get_spec(session, claim.job_id))
            result = handler(spec, job)
        with scope() as session:
            attempts.succeed(session, claim, result)
    except Cancelled:
        return _stopped(claim, scope)
    except (ClaimLost, DatabaseUnavailable):
        raise
    except Paused as error:
        with scope() as session:
            attempts.pause(session, claim, _failure(error))
    except SparsightError as error:
        _fail(claim, scope, error)
    except Exception as error:
        logger.exception("The job ended by a fault of the program.")
        _fail(claim, scope, _named(error))
    return 0


def _stopped(claim: Claim, scope: SessionScope) -> int:
    """Cancelled if a person asked for it; else the worker puts the job back into the queue."""
    with scope() as session:
        if not attempts.renew(session, claim):
            return EXIT_STOPPED
        attempts.cancelled(session, claim)
    return 0


def _fail(claim: Claim, scope: SessionScope, error: SparsightError) -> None:
    with scope() as session:
        attempts.fail(session, claim, _failure(error))


def _failure(error: SparsightError) -> JobFailure:
    return JobFailure(code=error.code, message=error.message, hint=error.hint)


def _named(error: Exception) -> SparsightError:
    """The product's own error for what a library raised."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(
            "Memory of the machine or its accelerator ran out.",
            hint="Use fewer batch_tiles or SAEs, or a shorter context; then resume.",
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull("The disk is full.", hint="Free some disk; then resume.")
    return SparsightError(
        f"The job ended by a fault of the program ({type(error).__name__}).",
        hint="The worker's log has the details.",
    )


@contextmanager
def _copied_log(job: JobContext) -> Iterator[None]:
    copy = JobLog(job)
    ours = [logging.getLogger(name) for name in ("core", "worker")]
    for source in ours:
        source.addHandler(copy)
    try:
        yield
    finally:
        for source in ours:
            source.removeHandler(copy)


@contextmanager
def _alone_in(folder: Path, stop: threading.Event) -> Iterator[None]:
    """The job's folder, locked: an earlier attempt that is being stopped leaves it first."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with (folder / ".lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(0.1) or time.monotonic() > deadline:
                    raise Cancelled("Another attempt is still in the job's folder.") from None
        yield


def _first_line(fd: int) -> bytes:
    """Bytes up to the first newline, read one by one: what follows belongs to the lifeline."""
    line = bytearray()
    while (byte := os.read(fd, 1)) not in {b"", b"\n"}:
        line += byte
    return bytes(line)


def leave(code: int) -> NoReturn:
    """End this process at once.

    The job's end is written, so nothing is left to do; taking down an interpreter with a model in
    it lasts seconds on a busy machine, and the worker kills a runner that outlives its claim.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
