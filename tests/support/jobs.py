"""Jobs for tests: settings, a claimed job, and worker processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.db.repositories import attempts, jobs
from core.db.session import SessionScope
from core.domain.corpus import FileCorpusSpec
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.job import JobCard, JobSpec, JobState
from core.domain.model import ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource
from core.jobs.control import submit
from worker.progress import JobContext

ROOT = Path(__file__).parents[2]
ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def job_spec(behaviour: str = "work", *, items: int = 3, milliseconds: int = 1) -> HarvestSpec:
    """Settings that tell the runner of ``tests.support.runner`` what to do."""
    return HarvestSpec(
        model_id=behaviour,
        model=ModelSource(kind=ModelKind.FOLDER, location="/nowhere"),
        saes=(
            SaeEntry(sae_id="0-none", source=SaeSource(kind=SaeKind.FOLDER, location="/nowhere")),
        ),
        corpus=FileCorpusSpec(path="/nowhere.txt"),
        n_top=items,
        tile_contexts=milliseconds,
    )


@contextmanager
def claimed_job(scope: SessionScope, spec: JobSpec, data_dir: Path) -> Iterator[JobContext]:
    """A job that this process holds, as a handler sees it."""
    with scope() as session:
        job_id = submit(session, spec)
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="test:1:1")
    assert claim is not None
    with JobContext(
        claim=claim,
        scope=scope,
        work_dir=data_dir / "jobs" / str(job_id),
        cache_dir=data_dir / "cache",
    ) as job:
        yield job


class WorkerProcess:
    """A real worker, with its output in a file; its runner is the real one if that is named."""

    def __init__(
        self,
        url: str,
        data_dir: Path,
        *,
        queues: str = "gpu,llm,ctl",
        runner: str = "tests.support.runner",
    ) -> None:
        self.log = data_dir / f"worker-{time.monotonic_ns()}.log"
        arguments = [url, str(data_dir), queues, runner]
        command = [sys.executable, "-m", "tests.support.worker", *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        os.kill(self.process.pid, number)

    def end(self) -> int:
        """Stop it as an operator would; returns the exit code."""
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def worker_process(
    url: str,
    data_dir: Path,
    *,
    queues: str = "gpu,llm,ctl",
    runner: str = "tests.support.runner",
) -> Iterator[WorkerProcess]:
    """A worker that is stopped at the end of the block."""
    worker = WorkerProcess(url, data_dir, queues=queues, runner=runner)
    try:
        yield worker
    finally:
        worker.end()


def card_of(scope: SessionScope, job_id: int) -> JobCard:
    """The job's present row."""
    with scope() as session:
        return jobs.get_card(session, job_id)


def wait_for(condition: Callable[[], bool], *, seconds: float = 60.0, what: str = "") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


def wait_for_end(scope: SessionScope, job_id: int, *, seconds: float = 60.0) -> JobCard:
    """Wait until a job has ended."""
    wait_for(lambda: card_of(scope, job_id).state in ENDED, seconds=seconds, what="the job's end")
    return card_of(scope, job_id)
