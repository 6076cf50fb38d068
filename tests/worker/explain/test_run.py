"""Runs of explanations: planted features through the job, faults, budgets and resuming."""

import pytest
from pydantic import SecretStr

from core.db.repositories import answers, attempts, endpoints, explanations, jobs, scores
from core.domain.endpoint import EndpointSettings
from core.domain.explain_job import (
    ExplainerSetting,
    ExplainSpec,
    ListedFeatures,
    RunBudget,
    ScorerSetting,
    WholeSae,
)
from core.domain.explanation import (
    EvidenceStyle,
    Explanation,
    ExplanationMethod,
    Floor,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)
from core.domain.job import JobState
from core.errors import BudgetReached, Cancelled, EndpointStopped
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
            _, _, judged = scores.get_with_examples(
                session, by_kind[ScoreKind.DETECTION].score_id
            )
        scored = {e.context_index for e in (*examples, *judged)}
        assert not scored & set(details.context_indices)
        assert len(examples[0].simulated) == len(examples[0].real) == len(examples[0].tokens)
        assert all(example.verdict is not None for example in judged)
