"""Killed with -9, a run of explanations goes on, and pays again only for what was on its way."""

import json
import os
import signal
import time
from functools import partial

import psutil
import pytest

from core.db.repositories import answers, explanations
from core.domain.explain_job import ScorerSetting, WholeSae
from core.domain.explanation import SimulationMode
from core.domain.job import JobState
from core.jobs.control import submit
from tests.support.explain_runs import spec_of, store_endpoint
from tests.support.jobs import card_of, wait_for, wait_for_end, worker_process
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import NAMES, feature, publish_planted
from tests.support.scripted_model import ScriptedModel

CONCURRENCY = 3
PROBES = 8  # questions at most that find out what the server can do
RUNNER = "worker.runner"


@pytest.fixture
def server():
    model = LlmServer(ScriptedModel(RULES), latency=0.04, without=["/tokenize"])
    with serving(model) as running:
        yield running


@pytest.fixture
def job_id(session_scope, server):
    with session_scope() as session:
        publish_planted(session)
    endpoint = store_endpoint(session_scope, server, concurrency=CONCURRENCY)
    scorer = ScorerSetting(
        endpoint_id=endpoint, mode=SimulationMode.SCHEMA, kinds=("simulation", "detection")
    )
    spec = spec_of(endpoint, features=WholeSae(), scorer=scorer)
    with session_scope() as session:
        return submit(session, spec)


def asked(server) -> list[str]:
    """Bodies of the requests that cost money, in their order; those of the probe left out."""
    pairs = zip(list(server.log.paths), list(server.log.bodies), strict=False)
    texts = [
        json.dumps(body, sort_keys=True)
        for path, body in pairs
        if path.endswith("/chat/completions")
    ]
    return [t for t in texts if "quorl" not in t and "number ten in digits" not in t]


def runner_of(worker) -> int:
    """The process in which the job runs."""
    children = psutil.Process(worker.process.pid).children(recursive=True)
    (pid,) = [child.pid for child in children if RUNNER in " ".join(child.cmdline())]
    return pid


def kill(pid: int) -> None:
    """End a process at once, and wait until what it had sent has arrived."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), what="the runner's end")
    time.sleep(0.1)  # far less than another runner takes to start


def assert_paid_once(server, kills) -> None:
    """A request is repeated only if its answer was on its way, or just in, at a kill."""
    bodies = asked(server)
    first = {body: place for place, body in reversed(list(enumerate(bodies)))}
    again = {first[body] for place, body in enumerate(bodies) if place > first[body]}
    on_its_way = {place for n in kills for place in range(n - 2 * CONCURRENCY, n)}
    assert again <= on_its_way


def assert_complete(session_scope, job_id, server, *, kills) -> None:
    with session_scope() as session:
        cards = [explanations.list_cards(session, feature(i)) for i in range(len(NAMES))]
        spent = answers.spending_of(session, [job_id])[job_id]
    assert [card.explanation.text for (card,) in cards] == NAMES
    assert all(len(card.scores) == 2 for (card,) in cards)
    values = [score.headline.value for (card,) in cards for score in card.scores]
    assert all(value is not None and value > 0.9 for value in values)
    lost = 2 * CONCURRENCY * len(kills)
    entered = spent.requests - spent.from_cache
    assert len(asked(server)) - lost <= entered <= len(asked(server)) + PROBES


def has_asked(server, n: int) -> bool:
    return len(asked(server)) >= n


def is_at(session_scope, job_id: int, attempt: int) -> bool:
    return card_of(session_scope, job_id).attempt == attempt


def test_a_killed_runner_is_started_again_and_repeats_no_paid_call(
    session_scope, database_url, tmp_path, server, job_id
):
    kills = []
    with worker_process(database_url, tmp_path, runner=RUNNER) as worker:
        for n in (14, 90):
            wait_for(partial(has_asked, server, n), what=f"{n} requests")
            kill(runner_of(worker))
            kills.append(len(asked(server)))
            attempt = len(kills) + 1
            wait_for(partial(is_at, session_scope, job_id, attempt), what="a start")
        card = wait_for_end(session_scope, job_id, seconds=120)
    assert (card.state, card.attempt) == (JobState.SUCCEEDED, 3)
    assert_paid_once(server, kills)
    assert_complete(session_scope, job_id, server, kills=kills)


def test_a_killed_worker_is_replaced_and_no_paid_call_is_repeated(
    session_scope, database_url, tmp_path, server, job_id
):
    with worker_process(database_url, tmp_path, runner=RUNNER) as first:
        wait_for(lambda: len(asked(server)) >= 60, what="60 requests")
        first.process.kill()
        first.process.wait()
    wait_for(lambda: quiet(server), what="the orphaned runner to stop")
    kills = [len(asked(server))]
    with worker_process(database_url, tmp_path, runner=RUNNER):
        card = wait_for_end(session_scope, job_id, seconds=120)
    assert (card.state, card.attempt) == (JobState.SUCCEEDED, 2)
    assert_paid_once(server, kills)
    assert_complete(session_scope, job_id, server, kills=kills)


def quiet(server) -> bool:
    """Whether nothing was asked for a while: a runner without its worker stops by itself."""
    before = len(server.log.paths)
    time.sleep(0.6)
    return len(server.log.paths) == before
