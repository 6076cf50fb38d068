"""The best of several samples is found on contexts that nothing is scored on."""

import random
from datetime import UTC, datetime

from core.autointerp.sampling import split_specimens
from core.domain.explanation import (
    EvidenceStyle,
    Explanation,
    ExplanationMethod,
    Measure,
    Metric,
    Missing,
    Score,
    ScoreKind,
)
from core.domain.ids import FeatureId
from core.domain.views_explain import ExplanationCard
from core.explaining.choosing import calibration_split, choice_items, rank
from core.explaining.examiner import Examination
from tests.support.planted import RULES, specimens


def split():
    return split_specimens(specimens(RULES["the word river"], seed=3), rng=random.Random(0))


def indices(*groups):
    return {specimen.context_index for group in groups for specimen in group}


def test_nothing_that_is_scored_on_is_looked_at_when_choosing():
    whole = split()
    held = calibration_split(whole)
    scored = indices(whole.score_top, whole.score_random, whole.positives, whole.negatives)
    looked_at = indices(held.score_top, held.score_random, held.positives, held.negatives)
    assert looked_at == indices(whole.calibrate_top, whole.calibrate_random)
    assert not looked_at & scored
    assert not looked_at & indices(whole.explain)
    assert not indices(held.kept) & scored


def examined(*values):
    return [
        Examination(
            score=Score(
                kind=ScoreKind.SIMULATION,
                metrics={
                    Metric.TOP_AND_RANDOM: Measure(value=v)
                    if isinstance(v, float)
                    else Measure(value=None, missing=v)
                },
                n=10,
                n_ok=10,
                failures={},
                judge="m",
            )
        )
        for v in values
    ]


def test_the_greatest_value_is_chosen_and_of_equals_the_first():
    found = rank(examined(0.2, 0.7, Missing.CONSTANT_PREDICTION, 0.7))
    assert [choice.chosen for choice in found] == [False, True, False, False]
    assert [choice.rank for choice in found] == [3, 1, 4, 2]
    assert found[2].missing is Missing.CONSTANT_PREDICTION
    assert {choice.of for choice in found} == {4}
    assert {choice.n_contexts for choice in found} == {10}


def test_without_any_value_the_first_is_chosen_and_the_reason_kept():
    found = rank(examined(Missing.LOW_COVERAGE, Missing.LOW_COVERAGE))
    assert [choice.chosen for choice in found] == [True, False]
    assert found[0].missing is Missing.LOW_COVERAGE


def card(explanation_id, index, style, sample):
    return ExplanationCard(
        explanation_id=explanation_id,
        feature=FeatureId(model_id="m", sae_id="0-x", index=index),
        explanation=Explanation(text="t", method=ExplanationMethod.LLM, author="m", style=style),
        language="en",
        harvest_id=1,
        endpoint_id=1,
        job_id=1,
        sample=sample,
        version=1,
        superseded_by=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_samples_of_one_prompt_are_compared_and_a_single_one_is_not():
    records, tokens = EvidenceStyle.RECORDS, EvidenceStyle.TOKENS_AND_LOGITS
    cards = [card(2, 0, records, 1), card(1, 0, records, 0), card(3, 0, tokens, 0)]
    (item,) = choice_items([*cards, card(4, 1, records, 0)])
    assert (item.feature.index, item.style) == (0, records)
    assert [c.sample for c in item.cards] == [0, 1]
    assert item.key == "choose/0/records"
