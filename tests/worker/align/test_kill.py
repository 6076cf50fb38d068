"""Killed with -9 at random moments, a run goes on, tells each step once and keeps its weights."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file

from core.db.repositories import jobs
from core.db.session import make_engine
from core.db.session import session_scope as make_scope
from core.domain.job import EventKind, JobState
from core.jobs.control import submit
from tests.support.jobs import ROOT, claimed_job, wait_for, wait_for_end, worker_process
from tests.support.tiny_world import write_world
from worker.align.run import run_align
from worker.align.training.metrics import read_metrics
from worker.progress import JobContext

STEPS = 24
KILLS = 8
SAVED_EVERY = {"save_every": 5, "eval_every": 7}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Model, SAE and pairs on disk."""
    return write_world(tmp_path_factory.mktemp("world"))


def spec_of(world, **training):
    spec = world.run(steps=STEPS, **{**SAVED_EVERY, **training})
    return spec.model_copy(update={"measure_drift": False})


def told(scope, job_id):
    """The run's metrics in the database."""
    with scope() as session:
        events = jobs.events_after(session, job_id, seq=0)
    return [event.payload for event in events if event.kind is EventKind.METRIC]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def train(url, spec, held, cache_dir) -> None:
    """One attempt in a process of its own, from its claim to its end."""
    torch.set_num_threads(1)
    job = JobContext(
        claim=held.claim,
        scope=make_scope(make_engine(url)),
        work_dir=held.work_dir,
        cache_dir=cache_dir,
    )
    with job:
        run_align(spec, job)


def start(*arguments) -> int:
    """A forked child that trains; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(*arguments)
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int, seconds: float) -> int | None:
    """The exit code of a child that ends in this time, else None after it was killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.parametrize("seed", [0, 1])
def test_a_trainer_killed_again_and_again_ends_as_if_nothing_had_been(
    world, session_scope, database_url, tmp_path, seed
):
    spec, cache = spec_of(world), tmp_path / "cache"
    with claimed_job(session_scope, spec, tmp_path) as held:
        began = time.monotonic()
        assert ended(start(database_url, spec, held, cache), 60.0) == 0
        whole_seconds = time.monotonic() - began
        expected, whole = told(session_scope, held.job_id), weights(held.work_dir)
    rng = random.Random(seed)
    with claimed_job(session_scope, spec, tmp_path) as held:
        for _ in range(KILLS):
            seconds = rng.uniform(0.15, 0.75) * whole_seconds
            if ended(start(database_url, spec, held, cache), seconds) == 0:
                break
        if not (held.work_dir / "model").is_dir():
            assert ended(start(database_url, spec, held, cache), 60.0) == 0
        rows = read_metrics(held.work_dir / "metrics.jsonl")
        events, again = told(session_scope, held.job_id), weights(held.work_dir)
    assert [event["step"] for event in events] == list(range(STEPS + 1))
    assert events == rows
    for one, other in zip(events, expected, strict=True):
        assert one.keys() == other.keys()
        assert one.get("loss") == other.get("loss")
        assert one.get("eval_loss") == other.get("eval_loss")
    for name, weight in whole.items():
        assert torch.equal(again[name], weight), name


@contextmanager
def web_process(url: str, data_dir: Path):
    """The web process of the product, which the test may kill."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"SPARSIGHT_DATABASE_URL": url, "SPARSIGHT_DATA_DIR": str(data_dir)}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "app.main", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, f"http://127.0.0.1:{port}/api/v1/alignments"
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5.0).is_success
    except httpx.HTTPError:
        return False


def test_runner_worker_and_web_are_killed_and_the_run_goes_on(
    world, session_scope, database_url, tmp_path
):
    spec, rng = spec_of(world, save_every=4, max_steps=90), random.Random(3)
    with session_scope() as session:
        job_id = submit(session, spec)

    def steps() -> int:
        return len(told(session_scope, job_id))

    with web_process(database_url, tmp_path) as (web, address):
        # Before there is a worker: the run would be over before a slow machine's web process is up.
        wait_for(lambda: answers(f"{address}/{job_id}"), what="the web process")
        with worker_process(database_url, tmp_path, runner="worker.runner") as worker:
            wait_for(lambda: steps() > rng.randint(1, 6), what="the first steps")
            for runner in psutil.Process(worker.process.pid).children():
                runner.kill()
            web.kill()
            before = steps()
            wait_for(lambda: steps() > before + rng.randint(1, 6), what="more steps")
            worker.send(signal.SIGKILL)
            worker.process.wait()
        with worker_process(database_url, tmp_path, runner="worker.runner"):
            card = wait_for_end(session_scope, job_id, seconds=90.0)
    assert card.state is JobState.SUCCEEDED, card
    assert card.attempt >= 3
    events = told(session_scope, job_id)
    assert [event["step"] for event in events] == list(range(91))
    assert events == read_metrics(tmp_path / "jobs" / str(job_id) / "metrics.jsonl")
    with web_process(database_url, tmp_path) as (_, address):
        wait_for(lambda: answers(f"{address}/{job_id}"), what="the web process again")
        text = httpx.get(f"{address}/{job_id}/metrics.jsonl", timeout=10.0).text
    assert len(text.splitlines()) == 91
