"""Runs of explanations: planted features through the job, faults, budgets and resuming."""

import json

import pytest
from pydantic import SecretStr

from core.db.repositories import answers, attempts, endpoints, explanations, jobs, scores
from core.domain.explain_job import (
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
from core.domain.job import JobFailure
from core.errors import BudgetReached, EndpointStopped
from core.jobs.control import resume, submit
from tests.support.explain_runs import attempt, key_ring, spec_of, store_endpoint
from tests.support.llm_server import Fault, LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import DEAD, NAMES, feature, publish_planted
from tests.support.scripted_model import ScriptedModel


@pytest.fixture
def harvest_id(session_scope):
    with session_scope() as session:
        return publish_planted(session)


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


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
        assert simulated.headline.value >= 0.9
        assert simulated.score.mode is SimulationMode.ALL_AT_ONCE
        assert simulated.floor(Floor.SHUFFLED).value <= 0.15
        assert simulated.shuffled_with in set(NAMES) - {rule}
        assert simulated.floor(Floor.CONSTANT).missing is Missing.CONSTANT_PREDICTION
        assert simulated.score.metrics[Metric.CALIBRATED_R2].value >= 0.8
        for kind in (ScoreKind.DETECTION, ScoreKind.FUZZING):
            assert by_kind[kind].headline.value >= 0.95
            assert by_kind[kind].floor(Floor.SHUFFLED).value <= 0.75
        with session_scope() as session:
            _, examples, _ = scores.get_with_examples(session, simulated.score_id)
            _, _, judged = scores.get_with_examples(session, by_kind[ScoreKind.DETECTION].score_id)
        scored = {e.context_index for e in (*examples, *judged)}
        assert not scored & set(details.context_indices)
        assert len(examples[0].simulated) == len(examples[0].real) == len(examples[0].tokens)
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
    assert score.headline.value >= 0.9
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
    "time-out": (Fault(delay=1.6), "timeout"),
    "truncated JSON": (Fault(body=b'{"choices": [{"mess'), "server"),
    "dropped midway": (Fault(drop=True, body=b'{"choices": [{"mess'), "connection"),
    "bad request": (Fault(status=400), "bad_request"),
}


@pytest.mark.parametrize(("fault", "code"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_a_counted_failure_and_never_a_zero(
    session_scope, tmp_path, harvest_id, server, fault, code
):
    endpoint = store_endpoint(session_scope, server, timeout_seconds=1, attempts=1)
    _probed(session_scope, tmp_path, endpoint)
    simulations = []
    n_faults = 2 if code == "connection" else 3  # a third in a row would pause the run

    def on_request(_):
        simulations.append(1)
        return fault if 3 <= len(simulations) < 3 + n_faults else None

    server.on_request = on_request
    try:
        result = attempt(session_scope, tmp_path, spec_of(endpoint))
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
    lost = [example for example in examples if example.failure is not None]
    assert code in counted or code in {example.failure.code for example in lost}
    assert all(example.simulated is None for example in lost)
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
    session_scope, tmp_path, harvest_id
):
    with serving(LlmServer(ScriptedModel(RULES))) as counted:
        endpoint = store_endpoint(session_scope, counted)
        _probed(session_scope, tmp_path, endpoint)
        before = len(counted.log.bodies)
        full = spec_of(endpoint, features=WholeSae())
        poor = full.model_copy(update={"budget": RunBudget(max_requests=17)})
        with session_scope() as session:
            job_id = submit(session, poor)
        with pytest.raises(BudgetReached, match="budget"):
            attempt(session_scope, tmp_path, poor, job_id=job_id)
        assert len(_asked(counted, before)) == 17
        with session_scope() as session:
            spent = answers.spending_of(session, [job_id])[job_id]
            attempts.pause(session, _claim(session, job_id), _reason())
            assert resume(session, job_id) == 2
        assert spent.requests - spent.from_cache == 17
        result = attempt(session_scope, tmp_path, full, job_id=job_id, number=2)
        asked = _asked(counted, before)
    assert result["n_scores"] == 4
    assert result["failures"] == {}
    assert len(asked) == len(set(asked))
    assert result["requests"] == len(asked)


def test_a_crash_midway_repeats_no_paid_call(session_scope, tmp_path, harvest_id):
    with serving(LlmServer(ScriptedModel(RULES))) as counted:
        endpoint = store_endpoint(session_scope, counted)
        _probed(session_scope, tmp_path, endpoint)
        before = len(counted.log.bodies)
        spec = spec_of(endpoint, features=WholeSae())
        with session_scope() as session:
            job_id = submit(session, spec)
        counted.on_request = lambda n: Fault(status=401) if n > before + 30 else None
        with pytest.raises(EndpointStopped, match="auth"):
            attempt(session_scope, tmp_path, spec, job_id=job_id)
        counted.on_request = None
        paid = _asked(counted, before)[:30]
        with session_scope() as session:
            attempts.pause(session, _claim(session, job_id), _reason())
            resume(session, job_id)
        at = len(counted.log.bodies)
        result = attempt(session_scope, tmp_path, spec, job_id=job_id, number=2)
        again = _asked(counted, at)
    assert result["n_scores"] == 4
    assert not set(paid) & set(again)


def test_a_persons_explanation_is_scored_alone(session_scope, tmp_path, harvest_id, server):
    endpoint = store_endpoint(session_scope, server)
    with session_scope() as session:
        for index, name in enumerate(NAMES[:2]):
            human = Explanation(text=name, method=ExplanationMethod.HUMAN, author="Ann")
            explanations.add(session, feature=feature(index), explanation=human)
    scorer = ScorerSetting(
        endpoint_id=endpoint, kinds=("detection",), existing=(ExplanationMethod.HUMAN,)
    )
    result = attempt(session_scope, tmp_path, spec_of(endpoint, explainer=None, scorer=scorer))
    assert (result["n_explanations"], result["n_scores"]) == (0, 2)
    with session_scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
    assert card.scores[0].headline.value >= 0.95


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
