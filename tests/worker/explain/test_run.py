"""Runs of explanations: planted features through the job, faults, budgets and resuming."""

import json
import threading

import pytest
from pydantic import SecretStr

from core.db.repositories import answers, attempts, endpoints, explanations, jobs, scores
from core.domain.explain_job import (
    ExplainerSetting,
    ListedFeatures,
    RunBudget,
    ScorerSetting,
    WholeSae,
)
from core.domain.explanation import (
    Explanation,
    ExplanationMethod,
    Floor,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)
from core.domain.job import JobFailure, JobState
from core.errors import BudgetReached, EndpointStopped, LlmUnsupported
from core.jobs.control import resume, submit
from tests.support.explain_runs import attempt, key_ring, spec_of, store_endpoint
from tests.support.llm_server import Fault, LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import DEAD, NAMES, feature, publish_planted
from tests.support.scripted_model import ScriptedModel, Wavering, words
from worker.handlers import run_job
from worker.runner import Setup, run_attempt


@pytest.fixture
def harvest_id(session_scope):
    with session_scope() as session:
        return publish_planted(session)


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


@pytest.fixture
def plain_server():
    """Without a tokenizer to ask: prompts go as text, in fewer requests."""
    with serving(LlmServer(ScriptedModel(RULES), without=["/tokenize"])) as running:
        yield running


def number(measure):
    """The value of a measure that has one."""
    assert measure.value is not None
    return measure.value


def by_schema(endpoint):
    """Two features, simulated by one short answer a context."""
    scorer = ScorerSetting(endpoint_id=endpoint, mode=SimulationMode.SCHEMA)
    return spec_of(endpoint, scorer=scorer)


def test_planted_features_are_explained_and_scored_high_with_low_floors(
    session_scope, tmp_path, harvest_id, server
):
    endpoint = store_endpoint(session_scope, server)
    spec = spec_of(
        endpoint,
        features=WholeSae(),
        scorer=ScorerSetting(endpoint_id=endpoint, kinds=("simulation", "detection", "fuzzing")),
    )
    result = attempt(session_scope, tmp_path, spec)
    assert (result["n_features"], result["n_explanations"], result["n_scores"]) == (4, 4, 12)
    assert result["failures"] == {}
    for index, rule in enumerate(NAMES):
        with session_scope() as session:
            (card,) = explanations.list_cards(session, feature(index))
            details = explanations.get_details(session, card.explanation_id)
        assert card.explanation.text == rule
        assert card.explanation.author == "scripted"
        assert card.harvest_id == harvest_id
        assert details.messages[0].role == "system"
        by_kind = {found.score.kind: found for found in card.scores}
        simulated = by_kind[ScoreKind.SIMULATION]
        assert number(simulated.headline) >= 0.9
        assert simulated.score.mode is SimulationMode.ALL_AT_ONCE
        assert number(simulated.floor(Floor.SHUFFLED)) <= 0.15
        assert simulated.shuffled_with in set(NAMES) - {rule}
        assert simulated.floor(Floor.CONSTANT).missing is Missing.CONSTANT_PREDICTION
        assert number(simulated.score.metrics[Metric.CALIBRATED_R2]) >= 0.8
        for kind in (ScoreKind.DETECTION, ScoreKind.FUZZING):
            assert number(by_kind[kind].headline) >= 0.95
            assert number(by_kind[kind].floor(Floor.SHUFFLED)) <= 0.75
        with session_scope() as session:
            _, examples, _ = scores.get_with_examples(session, simulated.score_id)
            _, _, judged = scores.get_with_examples(session, by_kind[ScoreKind.DETECTION].score_id)
        scored = {e.context_index for e in examples} | {e.context_index for e in judged}
        assert not scored & set(details.context_indices)
        assert len(examples[0].simulated or ()) == len(examples[0].real) == len(examples[0].tokens)
        assert all(example.verdict is not None for example in judged)


def test_without_an_endpoint_the_token_lookup_table_runs_by_the_same_path_as_a_baseline(
    session_scope, tmp_path, harvest_id
):
    result = attempt(session_scope, tmp_path, spec_of(None, features=WholeSae()))
    assert (result["n_explanations"], result["n_scores"], result["requests"]) == (4, 4, 0)
    with session_scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
    assert card.is_baseline
    assert card.explanation.author == "token lookup"
    (score,) = card.scores
    assert score.is_baseline
    assert number(score.headline) >= 0.9
    assert Floor.SHUFFLED not in score.score.floors


def test_a_feature_that_cannot_be_explained_fails_alone_with_its_code(
    session_scope, tmp_path, harvest_id
):
    spec = spec_of(None, features=ListedFeatures(indices=(0, DEAD)))
    result = attempt(session_scope, tmp_path, spec)
    assert result["n_explanations"] == 1
    assert result["failures"] == {"invalid": 1}


FAULTS = {
    "429 with Retry-After": (Fault(status=429, headers={"retry-after": "0.05"}), "rate_limit"),
    "500": (Fault(status=500), "server"),
    "time-out": (Fault(delay=2.5), "timeout"),
    "truncated JSON": (Fault(body=b'{"choices": [{"mess'), "server"),
    "dropped midway": (Fault(drop=True, body=b'{"choices": [{"mess'), "connection"),
    "bad request": (Fault(status=400), "bad_request"),
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_a_counted_failure_and_never_a_zero(
    session_scope, tmp_path, harvest_id, plain_server, fault, code
):
    server = plain_server
    slow = code == "timeout"
    endpoint = store_endpoint(session_scope, server, timeout_seconds=2 if slow else 60, attempts=1)
    _probed(session_scope, tmp_path, endpoint)
    simulations = []
    n_faults = 2 if code == "connection" else 3  # a third in a row would pause the run

    def on_request(_):
        simulations.append(1)
        return fault if 3 <= len(simulations) < 3 + n_faults else None

    server.on_request = on_request
    try:
        result = attempt(session_scope, tmp_path, by_schema(endpoint))
    finally:
        server.on_request = None
    assert result["n_scores"] == 2
    with session_scope() as session:
        cards = [c for i in (0, 1) for c in explanations.list_cards(session, feature(i))]
        failed = [dict(s.score.failures) for card in cards for s in card.scores]
        floors = [
            dict(s.score.floors[Floor.SHUFFLED].failures) for card in cards for s in card.scores
        ]
        examples = [
            example
            for card in cards
            for s in card.scores
            for example in scores.get_with_examples(session, s.score_id)[1]
        ]
    counted = {k: n for part in (*failed, *floors) for k, n in part.items()}
    lost = {e.failure.code: e.simulated for e in examples if e.failure is not None}
    assert code in counted or code in lost
    assert set(lost.values()) <= {None}
    for card in cards:
        for score in card.scores:
            low = score.score.coverage < 0.8
            assert (score.headline.missing is Missing.LOW_COVERAGE) == low
            assert (score.headline.value is None) == low


def test_a_refusal_fails_the_explanation_and_the_run_goes_on(session_scope, tmp_path, harvest_id):
    class Refusing(ScriptedModel):
        def explain(self, last):
            found = super().explain(last)
            return "I'm sorry, but I can't help with that" if found == NAMES[0] else found

    with serving(LlmServer(Refusing(RULES))) as refusing:
        endpoint = store_endpoint(session_scope, refusing)
        result = attempt(session_scope, tmp_path, spec_of(endpoint, scorer=None))
    assert result["failures"] == {"refusal": 1}
    assert result["n_explanations"] == 1


def test_a_spent_budget_pauses_and_a_resumed_run_asks_nothing_twice(
    session_scope, tmp_path, harvest_id, plain_server
):
    endpoint = store_endpoint(session_scope, plain_server)
    _probed(session_scope, tmp_path, endpoint)
    before = len(plain_server.log.bodies)
    full = by_schema(endpoint)
    poor = full.model_copy(update={"budget": RunBudget(max_requests=17)})
    with session_scope() as session:
        job_id = submit(session, poor)
    with pytest.raises(BudgetReached, match="budget"):
        attempt(session_scope, tmp_path, poor, job_id=job_id)
    assert len(_asked(plain_server, before)) == 17
    with session_scope() as session:
        spent = answers.spending_of(session, [job_id])[job_id]
        attempts.pause(session, _claim(session, job_id), _reason())
        assert resume(session, job_id) == 2
    assert spent.requests - spent.from_cache == 17
    result = attempt(session_scope, tmp_path, full, job_id=job_id, number=2)
    asked = _asked(plain_server, before)
    assert result["n_scores"] == 2
    assert result["failures"] == {}
    assert len(asked) == len(set(asked))
    assert result["requests"] == len(asked)


def test_a_server_that_drops_dead_midway_pauses_the_run_and_no_paid_call_is_repeated(
    session_scope, tmp_path, harvest_id, plain_server
):
    endpoint = store_endpoint(session_scope, plain_server, attempts=1)
    _probed(session_scope, tmp_path, endpoint)
    before = len(plain_server.log.bodies)
    spec = by_schema(endpoint)
    with session_scope() as session:
        job_id = submit(session, spec)
    plain_server.on_request = _dead_after(20)
    with pytest.raises(EndpointStopped, match="connection"):
        attempt(session_scope, tmp_path, spec, job_id=job_id)
    plain_server.on_request = None
    paid = _asked(plain_server, before)[:20]
    with session_scope() as session:
        attempts.pause(session, _claim(session, job_id), _reason())
        resume(session, job_id)
    at = len(plain_server.log.bodies)
    result = attempt(session_scope, tmp_path, spec, job_id=job_id, number=2)
    again = _asked(plain_server, at)
    assert result["n_scores"] == 2
    assert len(paid) == 20
    assert not set(paid) & set(again)


def test_a_persons_explanation_is_scored_alone(session_scope, tmp_path, harvest_id, server):
    endpoint = store_endpoint(session_scope, server)
    with session_scope() as session:
        for index, name in enumerate(NAMES[:2]):
            human = Explanation(text=name, method=ExplanationMethod.HUMAN, author="Ann")
            explanations.add(
                session, explanations.NewExplanation(feature=feature(index), explanation=human)
            )
    scorer = ScorerSetting(
        endpoint_id=endpoint, kinds=("detection",), existing=(ExplanationMethod.HUMAN,)
    )
    result = attempt(session_scope, tmp_path, spec_of(endpoint, explainer=None, scorer=scorer))
    assert (result["n_explanations"], result["n_scores"]) == (0, 2)
    with session_scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
    assert number(card.scores[0].headline) >= 0.95


def test_a_stored_key_is_sent_and_shows_nowhere(session_scope, tmp_path, harvest_id, server):
    keys = key_ring(tmp_path)
    secret = "sk-very-secret-0123456789"
    sealed = keys.seal(SecretStr(secret))
    endpoint = store_endpoint(session_scope, server, key_sealed=sealed)
    attempt(session_scope, tmp_path, spec_of(endpoint, scorer=None), keys=keys)
    assert server.log.headers[-1]["authorization"] == f"Bearer {secret}"
    assert secret.encode() not in sealed
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    with session_scope() as session:
        shown = (endpoints.list_cards(session), jobs.list_jobs(session, limit=5))
        events = jobs.events_after(session, 1, seq=0)
    assert secret not in repr((shown, events))


def _probed(scope, folder, endpoint):
    """Find out what the server can do first, so that its questions are not counted."""
    attempt(scope, folder, spec_of(endpoint, features=ListedFeatures(indices=(3,)), scorer=None))


def _dead_after(n):
    """Drops every connection after so many requests."""
    answered = []

    def on_request(_):
        answered.append(1)
        return Fault(drop=True) if len(answered) > n else None

    return on_request


def _asked(server, start):
    return [
        json.dumps(body, sort_keys=True)
        for path, body in list(zip(server.log.paths, server.log.bodies, strict=True))[start:]
        if not path.endswith(("/tokenize", "/models"))
    ]


def _claim(session, job_id):
    ((claim, _),) = [pair for pair in attempts.list_claims(session) if pair[0].job_id == job_id]
    return claim


def _reason():
    return JobFailure(code="budget", message="The budget is spent.")


def test_the_runner_pauses_a_job_whose_budget_is_spent_with_the_reason(
    session_scope, tmp_path, harvest_id, server, database_url
):
    endpoint = store_endpoint(session_scope, server)
    poor = spec_of(endpoint, budget=RunBudget(max_tokens=10))
    with session_scope() as session:
        job_id = submit(session, poor)
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="test:1:1")
    assert claim is not None
    setup = Setup(
        database_url=database_url,
        data_dir=tmp_path,
        cache_dir=tmp_path,
        attempt=1,
        silence=5,
        grace=5,
        log_level="INFO",
        log_json=False,
    )
    code = run_attempt(setup, claim, scope=session_scope, stop=threading.Event(), handler=run_job)
    assert code == 0
    with session_scope() as session:
        card = jobs.get_card(session, job_id)
    assert (card.state, card.error_code, card.can_resume) == (JobState.PAUSED, "budget", True)
    assert card.error_hint == "Raise the run's budget, then resume it."


def test_texts_are_embedded_as_a_triage_beside_floors_with_the_models_name(
    session_scope, tmp_path, harvest_id
):
    with serving(LlmServer(Embedder(RULES))) as embedding:
        embedder = store_endpoint(session_scope, embedding, name="embedder")
        scorer = ScorerSetting(kinds=("embedding",), embedder_id=embedder)
        with session_scope() as session:
            for index, name in enumerate(NAMES[:2]):
                human = Explanation(text=name, method=ExplanationMethod.HUMAN, author="Ann")
                explanations.add(
                    session, explanations.NewExplanation(feature=feature(index), explanation=human)
                )
        scorer = scorer.model_copy(update={"existing": (ExplanationMethod.HUMAN,)})
        spec = spec_of(None, explainer=None, scorer=scorer)
        result = attempt(session_scope, tmp_path, spec)
    assert result["n_scores"] == 2
    with session_scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
        (score,) = card.scores
        _, simulated, judged = scores.get_with_examples(session, score.score_id)
    assert score.score.kind is ScoreKind.EMBEDDING
    assert score.score.judge == "tiny-embedder"
    assert score.endpoint_id == embedder
    assert number(score.headline) >= 0.95
    assert number(score.floor(Floor.SHUFFLED)) <= 0.75
    assert number(score.floor(Floor.CONSTANT)) == 0.5
    assert simulated == ()
    assert all(example.verdict is None for example in judged)
    assert all(example.similarity is not None for example in judged)


def test_an_endpoint_that_embeds_nothing_is_refused_before_anything_is_scored(
    session_scope, tmp_path, harvest_id, server
):
    endpoint = store_endpoint(session_scope, server)
    scorer = ScorerSetting(kinds=("embedding",), embedder_id=endpoint)
    with pytest.raises(LlmUnsupported, match="embeds no texts"):
        attempt(session_scope, tmp_path, spec_of(endpoint, scorer=scorer))


class Embedder(ScriptedModel):
    """Texts as vectors: one number a rule that fires in a text, or whose name it is."""

    def embed(self, body):
        data = [
            {"index": i, "embedding": self._vector(text)} for i, text in enumerate(body["input"])
        ]
        return {"model": "tiny-embedder", "data": data[::-1], "usage": {"prompt_tokens": 9}}

    def _vector(self, text):
        def near(name, rule):
            return text == name or any(a > 0 for a in rule(words(text)))

        return [0.1 + near(name, rule) for name, rule in self.rules.items()]


def test_of_several_samples_the_best_on_calibration_contexts_is_scored_and_the_choice_kept(
    session_scope, tmp_path, harvest_id
):
    with serving(LlmServer(Wavering(RULES), without=["/tokenize"])) as wavering:
        endpoint = store_endpoint(session_scope, wavering, concurrency=1)
        scorer = ScorerSetting(endpoint_id=endpoint, mode=SimulationMode.SCHEMA)
        explainer = ExplainerSetting(endpoint_id=endpoint, n_samples=3, choose_best=True)
        spec = spec_of(endpoint, explainer=explainer, scorer=scorer)
        result = attempt(session_scope, tmp_path, spec)
    assert (result["n_explanations"], result["n_scores"]) == (6, 2)
    for index in (0, 1):
        with session_scope() as session:
            cards = explanations.list_cards(session, feature(index))
        chosen = [card for card in cards if card.choice and card.choice.chosen]
        (best,) = chosen
        assert best.explanation.text == NAMES[index]
        why = best.choice
        assert why is not None
        assert (why.kind, why.of, why.n_contexts) == (ScoreKind.SIMULATION, 3, 10)
        assert why.value is not None
        assert why.value >= 0.9
        assert len(best.scores) == 1
        others = [card for card in cards if card is not best]
        assert sorted(card.choice.rank for card in others if card.choice) == [2, 3]
        assert all(card.scores == () for card in others)


def test_a_prompt_that_is_too_long_for_the_model_is_counted_and_nothing_is_sent(
    session_scope, tmp_path, harvest_id
):
    with serving(LlmServer(ScriptedModel(RULES), context_limit=600)) as short:
        endpoint = store_endpoint(session_scope, short)
        result = attempt(session_scope, tmp_path, spec_of(endpoint, scorer=None))
        sent = [
            body
            for path, body in zip(short.log.paths, short.log.bodies, strict=True)
            if path.endswith("/chat/completions") and len(body["messages"]) > 1
        ]
    assert result["failures"] == {"context_length": 2}
    assert sent == []
