"""Whoever stops watching stops the work: nothing more is asked, nothing stays open."""

import threading

import anyio
import pytest

from app.services.explain.live import LiveKind, explain_live
from core.db.repositories import explanations
from core.domain.explain_job import ListedFeatures
from tests.support.explain_runs import key_ring, spec_of, store_endpoint
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import feature, publish_planted
from tests.support.scripted_model import ScriptedModel


@pytest.fixture(scope="module")
def planted(scope):
    with scope() as session:
        return publish_planted(session)


@pytest.fixture
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


def writers():
    """Threads that write answers down."""
    return [thread for thread in threading.enumerate() if thread.name == "answers"]


def test_a_watcher_who_leaves_leaves_nothing_running(scope, planted, server, tmp_path):
    spec = spec_of(store_endpoint(scope, server), features=ListedFeatures(indices=(0,)))
    kinds = []

    async def watch_until(kind):
        async with anyio.create_task_group() as group:

            async def watch():
                async for step in explain_live(scope, key_ring(tmp_path), spec):
                    kinds.append(step.kind)
                    if step.kind is kind:
                        server.latency = 0.3
                        group.start_soon(leave)

            async def leave():
                await anyio.sleep(0.1)  # in the middle of a test
                group.cancel_scope.cancel()

            group.start_soon(watch)

    anyio.run(watch_until, LiveKind.TESTING)
    assert kinds[-1] is LiveKind.TESTING
    assert writers() == []
    asked = len(server.log.paths)
    anyio.run(anyio.sleep, 0.5)
    assert len(server.log.paths) == asked
    with scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
    assert card.scores == ()


def test_what_was_paid_for_is_not_asked_again(scope, planted, server, tmp_path):
    spec = spec_of(store_endpoint(scope, server), features=ListedFeatures(indices=(1,)))

    async def watch():
        return [step.kind async for step in explain_live(scope, key_ring(tmp_path), spec)]

    assert anyio.run(watch)[-1] is LiveKind.SCORED
    asked = server.log.count("completions")
    assert anyio.run(watch)[-1] is LiveKind.SCORED
    assert server.log.count("completions") == asked


def test_tokens_are_asked_for_once_and_not_for_every_context(scope, planted, server, tmp_path):
    endpoint = store_endpoint(scope, server)

    async def watch(index):
        spec = spec_of(endpoint, features=ListedFeatures(indices=(index,)))
        return [step.kind async for step in explain_live(scope, key_ring(tmp_path), spec)]

    assert anyio.run(watch, 0)[-1] is LiveKind.SCORED
    texts = [body["prompt"] for body in server.log.bodies if "content" in body]
    assert len(texts) - len(set(texts)) <= 5  # the probe asks some of them too
    asked = server.log.count("/tokenize")
    assert anyio.run(watch, 2)[-1] is LiveKind.SCORED
    assert server.log.count("/tokenize") - asked < asked / 3  # another feature, the same words
