"""Synthetic features with known rules, and a model behind a real server that knows them."""

import asyncio
import random

import pytest

from core import inquiry
from core.autointerp.explain import explain_from_records, explain_offline
from core.autointerp.judging import (
    JudgeSetting,
    detection_contexts,
    fuzzing_contexts,
    judging_label,
)
from core.autointerp.lookup import build_lookup
from core.autointerp.sampling import other_explanation, split_specimens
from core.autointerp.scoring import (
    classification_floors,
    classification_score,
    simulation_floors,
    simulation_score,
    with_floors,
)
from core.autointerp.wording import Language
from core.domain.explanation import (
    Answer,
    Floor,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)
from core.llm.ask import ask, carry_out
from core.llm.capabilities import PromptLogprobs, probe
from core.llm.client import LlmClient
from core.llm.endpoint import Endpoint
from tests.support.llm_server import LlmServer, serving
from tests.support.outcomes import measured, value
from tests.support.planted import RULES, specimens
from tests.support.scripted_model import NativeModel, ScriptedModel

FEATURES = list(RULES)
MODES = [SimulationMode.ALL_AT_ONCE, SimulationMode.ONE_AT_A_TIME, SimulationMode.SCHEMA]


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


@pytest.fixture(scope="module")
def nine_server():
    with serving(LlmServer(ScriptedModel(RULES, ten_is_two_tokens=True))) as running:
        yield running


def split_of(feature):
    return split_specimens(
        specimens(RULES[feature], seed=FEATURES.index(feature)), rng=random.Random(1)
    )


async def simulated_score(simulator, text, split, *, calibrate=False):
    calibration = (*split.calibrate_top, *split.calibrate_random) if calibrate else ()
    groups = [split.score_top, split.score_random, calibration]
    top, rand, cal = [
        await inquiry.simulate(simulator, text, [s.record for s in group]) for group in groups
    ]
    return simulation_score(top=top, random=rand, calibration=cal)


def in_loop(server, work):
    async def run():
        async with LlmClient(Endpoint(base_url=server.base_url, model="scripted")) as client:
            return await work(client)

    return asyncio.run(run())


@pytest.mark.parametrize("feature", FEATURES)
def test_the_explainer_finds_the_rule_from_its_rows(server, feature):
    async def work(client):
        records = [s.record for s in split_of(feature).explain]
        return await ask(explain_from_records(records), client)

    outcome = in_loop(server, work)
    assert isinstance(outcome, Answer)
    assert outcome.value.text == feature
    assert outcome.value.author == "scripted"


DEAR = SimulationMode.ONE_AT_A_TIME  # one request a token: two features are enough
PAIRS = [(f, m) for f in FEATURES for m in MODES if m is not DEAR or f in FEATURES[::2]]


@pytest.mark.parametrize(("feature", "mode"), PAIRS)
def test_the_right_explanation_scores_high_and_its_floors_do_not(server, feature, mode):
    split = split_of(feature)

    async def work(client):
        simulator = inquiry.simulator(client, await probe(client), mode=mode)
        right = await simulated_score(simulator, feature, split, calibrate=not dear)
        other = other_explanation(FEATURES.index(feature), FEATURES, rng=random.Random(3))
        return right, await simulated_score(simulator, other, split)

    dear = mode is DEAR
    right, shuffled = in_loop(server, work)
    scored = (*split.score_top, *split.score_random)
    floors = simulation_floors(
        top=[s.record for s in split.score_top],
        random=[s.record for s in split.score_random],
        calibration=[s.record for s in split.calibrate_top],
        lookup=build_lookup(s.record for s in split.held_out_from(scored)),
    )
    score = with_floors(right, {**floors, Floor.SHUFFLED: shuffled})
    assert score.mode is mode
    assert score.judge == "scripted"
    assert (score.n, score.n_ok, score.failures) == (10, 10, {})
    assert measured(score, Metric.TOP_AND_RANDOM) >= 0.9
    assert score.metrics[Metric.RANDOM_ONLY].value is not None
    calibrated = score.metrics[Metric.CALIBRATED_R2]
    if dear:
        assert calibrated.missing is Missing.NO_CALIBRATION
    else:
        assert measured(score, Metric.CALIBRATED_R2) >= 0.8
    assert measured(score.floors[Floor.SHUFFLED], Metric.TOP_AND_RANDOM) <= 0.1
    constant = score.floors[Floor.CONSTANT].metrics[Metric.TOP_AND_RANDOM]
    assert (constant.value, constant.missing) == (None, Missing.CONSTANT_PREDICTION)
    assert score.floors[Floor.TOKEN_LOOKUP].metrics[Metric.TOP_AND_RANDOM].value is not None


@pytest.mark.parametrize("feature", FEATURES)
def test_a_random_explanation_stays_at_its_floor(server, feature):
    split = split_of(feature)

    async def work(client):
        simulator = inquiry.simulator(client, await probe(client))
        return await simulated_score(simulator, "words about cheese", split)

    assert measured(in_loop(server, work), Metric.TOP_AND_RANDOM) <= 0.1


@pytest.mark.parametrize("kind", [ScoreKind.DETECTION, ScoreKind.FUZZING])
@pytest.mark.parametrize("feature", FEATURES)
def test_judges_agree_with_the_right_explanation_only(server, feature, kind):
    split = split_of(feature)
    make = detection_contexts if kind is ScoreKind.DETECTION else fuzzing_contexts
    contexts = make(split, rng=random.Random(2))

    async def work(client):
        setting = JudgeSetting()
        right = await inquiry.judge(kind, client, setting, feature, contexts)
        wrong = await inquiry.judge(kind, client, setting, "words about cheese", contexts)
        return right, wrong

    right, wrong = in_loop(server, work)
    label = judging_label(kind, Language.EN)
    score = classification_score(kind, contexts, right, template=label)
    floor = classification_score(kind, contexts, wrong)
    assert score.coverage == 1.0
    assert measured(score, Metric.BALANCED_ACCURACY) >= 0.95
    assert measured(score, Metric.F1) >= 0.95
    assert measured(score, Metric.AUROC) >= 0.95
    assert floor.metrics[Metric.BALANCED_ACCURACY].value == pytest.approx(0.5, abs=0.15)
    split_free = split.held_out_from([])
    floors = classification_floors(kind, contexts, build_lookup(s.record for s in split_free))
    always = floors[Floor.CONSTANT].metrics
    assert always[Metric.BALANCED_ACCURACY].value == 0.5
    assert always[Metric.AUROC].value == 0.5


def test_the_probe_finds_what_the_server_can_do(server):
    found = in_loop(server, probe)
    assert found.modes == tuple(MODES)
    assert found.prompt_logprobs is PromptLogprobs.BY_ID
    assert found.json_schema
    assert found.tokenizer
    assert found.ten_is_one_token is True
    assert found.scale_top == 10


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_model_whose_ten_is_two_tokens_simulates_from_0_to_9(nine_server, mode):
    split = split_of("the word river")

    async def work(client):
        found = await probe(client)
        simulator = inquiry.simulator(client, found, mode=mode)
        return found, simulator, await simulated_score(simulator, "the word river", split)

    found, simulator, score = in_loop(nine_server, work)
    assert found.ten_is_one_token is False
    assert any("two tokens" in note for note in found.notes)
    assert simulator.setting.scale_top == 9
    assert measured(score, Metric.TOP_AND_RANDOM) >= 0.9


@pytest.mark.parametrize("without", [(), ("/tokenize",)], ids=["by ids", "as text"])
def test_a_server_that_tells_prompts_by_its_own_interface_alone_simulates_all_at_once(without):
    with serving(LlmServer(NativeModel(RULES), without=without)) as server:
        split = split_of("the word river")

        async def work(client):
            found = await probe(client)
            simulator = inquiry.simulator(client, found)
            return found, await simulated_score(simulator, "the word river", split)

        found, score = in_loop(server, work)
    assert found.prompt_logprobs is PromptLogprobs.NATIVE
    assert score.mode is SimulationMode.ALL_AT_ONCE
    assert measured(score, Metric.TOP_AND_RANDOM) >= 0.9
    asked = [b for b in server.log.bodies if "return_logprob" in b][1:]  # the first is the probe's
    assert asked
    assert all(("text" if without else "input_ids") in body for body in asked)
    assert all((body["logprob_start_len"] > 100) is not bool(without) for body in asked)


def test_without_a_tokenizer_the_prompt_goes_as_text_and_rows_are_found_by_offset():
    with serving(LlmServer(ScriptedModel(RULES), without=["/tokenize"])) as server:
        split = split_of("the word that follows a comma")

        async def work(client):
            found = await probe(client)
            simulator = inquiry.simulator(client, found)
            score = await simulated_score(simulator, "the word that follows a comma", split)
            return found, score

        found, score = in_loop(server, work)
        assert not found.tokenizer
        assert found.ten_is_one_token is True
        assert score.mode is SimulationMode.ALL_AT_ONCE
        assert measured(score, Metric.TOP_AND_RANDOM) >= 0.9
        prompts = [b["prompt"] for b in server.log.bodies if "prompt" in b and "echo" in b]
        assert all(isinstance(prompt, str) for prompt in prompts)


def test_without_an_endpoint_the_lookup_table_explains_and_simulates_by_the_same_path():
    split = split_of("the word river")
    scored = (*split.score_top, *split.score_random)
    table = build_lookup(s.record for s in split.held_out_from(scored))

    async def work():
        plan = explain_offline([s.record for s in split.explain])
        explained = await carry_out(plan, inquiry.NoModel())
        return explained, await simulated_score(inquiry.offline_simulator(table), "", split)

    explained, score = asyncio.run(work())
    assert value(explained).text == "tokens such as “river”"
    assert value(explained).author == "token lookup"
    assert score.mode is SimulationMode.TOKEN_LOOKUP
    assert score.judge == "token lookup"
    assert measured(score, Metric.TOP_AND_RANDOM) >= 0.9
