"""Whoever stops watching stops the work: nothing more is asked, nothing stays open."""

import threading

import anyio
import pytest

from app.services.explain.live import LiveKind, explain_live
from core.db.repositories import explanations
from core.domain.explain_job import ExplainerSetting, ListedFeatures, ScorerSetting
from core.domain.explanation import SimulationMode
from tests.support.explain_runs import key_ring, spec_of, store_endpoint
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import NAMES, feature, publish_planted
from tests.support.scripted_model import ScriptedModel, Wavering


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


def test_of_several_samples_the_best_is_chosen_as_in_runs_and_it_alone_is_scored(
    scope, planted, tmp_path
):
    with serving(LlmServer(Wavering(RULES), without=["/tokenize"])) as wavering:
        endpoint = store_endpoint(scope, wavering, concurrency=1)
        spec = spec_of(
            endpoint,
            features=ListedFeatures(indices=(0,)),
            explainer=ExplainerSetting(endpoint_id=endpoint, n_samples=3, choose_best=True),
            scorer=ScorerSetting(endpoint_id=endpoint, mode=SimulationMode.SCHEMA),
        )

        async def watch():
            return [step async for step in explain_live(scope, key_ring(tmp_path), spec)]

        steps = anyio.run(watch)
    kinds = [step.kind for step in steps]
    asked = [LiveKind.ASKED, LiveKind.EXPLAINED] * 3
    assert kinds == [
        *asked,
        LiveKind.CHOOSING,
        LiveKind.CHOSEN,
        LiveKind.TESTING,
        LiveKind.SCORED,
    ]
    best, *others = steps[7].samples
    assert best.explanation.text == NAMES[0]
    assert [card.choice.rank for card in (best, *others)] == [1, 2, 3]
    assert best.choice.value > 0.9 > max(card.choice.value or 0.0 for card in others)
    assert steps[-1].explanation.explanation_id == best.explanation_id
