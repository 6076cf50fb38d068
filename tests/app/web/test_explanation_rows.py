"""Scores are compared where they can be, and the foremost explanation is chosen by rule."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from starlette.datastructures import QueryParams

from app.services.explain.explanations import foremost
from app.web import explain_form, explanation_rows
from core.domain.explanation import (
    Choice,
    Explanation,
    ExplanationMethod,
    Interval,
    Measure,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)
from core.domain.ids import FeatureId
from core.domain.views_explain import ExplanationCard, ScoreCard, ScoreDetails
from tests.support.explained import judged, judging, simulated, simulation

AT = datetime(2026, 11, 25, tzinfo=UTC)
FEATURE = FeatureId(model_id="m", sae_id="s", index=0)


def score(number, value):
    """A score card around a score."""
    return ScoreCard(
        score_id=number,
        explanation_id=1,
        score=value,
        endpoint_id=None,
        job_id=None,
        shuffled_with="",
        created_at=AT,
    )


def card(number, *values, method=ExplanationMethod.LLM, chosen=None):
    """An explanation with simulation scores, the newest first."""
    choice = None
    if chosen is not None:
        choice = Choice(
            chosen=chosen,
            rank=1 if chosen else 2,
            of=2,
            kind=ScoreKind.SIMULATION,
            metric=Metric.TOP_AND_RANDOM,
            value=0.5,
            missing=None,
            n_contexts=4,
        )
    return ExplanationCard(
        explanation_id=number,
        feature=FEATURE,
        explanation=Explanation(text=f"text {number}", method=method, author="a"),
        language="en",
        harvest_id=None,
        endpoint_id=None,
        job_id=None,
        sample=0,
        choice=choice,
        version=1,
        superseded_by=None,
        created_at=AT,
        scores=tuple(score(10 * number + i, simulation(v)) for i, v in enumerate(values)),
    )


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ([], None),
        ([card(1, 0.2), card(2, 0.9), card(3)], 2),
        ([card(1), card(2)], 2),
        ([card(1, 0.9), card(2, method=ExplanationMethod.HUMAN)], 2),
        ([card(1, 0.99, method=ExplanationMethod.TOKEN_LOOKUP), card(2, 0.1)], 2),
        ([card(1, None), card(2, -0.4)], 2),
        ([card(1, 0.3, chosen=True), card(2, 0.4, chosen=False)], 1),
    ],
    ids=[
        "nothing",
        "the best simulation",
        "the newest",
        "a person before a model",
        "a model before the baseline",
        "a bad value before none",
        "what was chosen among samples",
    ],
)
def test_the_foremost_explanation(cards, expected):
    found = foremost(cards)
    assert (found.explanation_id if found else None) == expected


def test_the_newest_score_of_a_kind_stands_for_it():
    newest = explanation_rows.newest_scores(card(1, 0.9, 0.1))
    assert [one.headline.value for one in newest] == [0.9]


def test_a_lead_within_overlapping_intervals_is_not_called_apart():
    (line,) = explanation_rows.compare([card(1, 0.50), card(2, 0.55)])
    assert line.best == 1
    assert line.lead == pytest.approx(0.05)
    assert line.apart is False


def test_scores_of_different_judges_stand_in_different_lines():
    other = replace(card(2), scores=(score(7, simulation(0.9, judge="other")),))
    lines = explanation_rows.compare([card(1, 0.5), other])
    assert [line.best for line in lines] == [None, None]


def test_calibration_is_fitted_on_calibration_contexts_alone():
    tokens = (" a", " b", " c", " d")
    details = ScoreDetails(
        card=score(1, simulation()),
        explanation=card(1),
        simulated=(
            replace(simulated(1, tokens), real=(9.0, 0.0, 0.0, 0.0)),
            simulated(2, tokens, group="calibration"),
        ),
        judged=(),
    )
    line = explanation_rows.calibration_line(details)
    assert line is not None
    assert line.slope == pytest.approx(0.7)
    assert line.intercept == pytest.approx(0.0, abs=1e-12)
    bare = replace(details, simulated=details.simulated[:1])
    assert explanation_rows.calibration_line(bare) is None


def test_what_was_embedded_stands_by_nearness():
    examples = tuple(
        replace(judged(i, (" a", " b"), label=bool(i % 2), verdict=None), similarity=i / 10)
        for i in range(4)
    )
    details = ScoreDetails(
        card=score(1, judging(ScoreKind.EMBEDDING)),
        explanation=card(1),
        simulated=(),
        judged=examples,
    )
    found = {
        g.name: [r.context_index for r in g.rows] for g in explanation_rows.judged_groups(details)
    }
    assert found == {"fires": [3, 1], "silent": [2, 0]}


def test_a_missing_value_has_no_place_among_floors():
    assert explanation_rows.floor_values(score(1, simulation(None, missing=Missing.ONE_CLASS))) == [
        *(0.05, 0.4),
    ]


def measured(value, *, low=None):
    """A simulation score of that value, with an interval from low, above floors of 0.05 and 0.4."""
    interval = None if low is None else Interval(low=low, high=0.99)
    metrics = {Metric.TOP_AND_RANDOM: Measure(value=value, interval=interval)}
    return score(1, replace(simulation(), metrics=metrics))


def test_a_score_beats_its_floors_only_where_it_is_more_than_chance():
    beats = explanation_rows.beats_floors
    assert beats(measured(0.7, low=0.5))
    assert not beats(measured(0.7, low=0.3))
    assert beats(measured(0.7))
    assert not beats(measured(0.4))
    assert not beats(score(1, simulation(None)))


def test_the_baseline_and_a_score_without_floors_beat_nothing():
    table = replace(simulation(), mode=SimulationMode.TOKEN_LOOKUP)
    assert not explanation_rows.beats_floors(score(1, table))
    assert not explanation_rows.beats_floors(score(1, replace(simulation(), floors={})))


def test_what_is_easily_misread_alone_has_its_companions_beside_it():
    def beside(value):
        return [metric for metric, _ in explanation_rows.metrics_beside(value)]

    assert beside(simulation()) == [Metric.RANDOM_ONLY, Metric.CALIBRATED_R2]
    assert beside(judging(ScoreKind.DETECTION))[0] is Metric.F1
    assert beside(judging(ScoreKind.EMBEDDING)) == []


def fields(text):
    """Choices as an address says them."""
    return explain_form.from_fields(QueryParams(text).multi_items(), ())


def test_a_form_without_endpoints_offers_the_table():
    form = fields("")
    assert (form.by, form.judge, form.kinds) == ("table", "table", ("simulation",))
    assert form.explainer()["endpoint_id"] is None


def test_the_table_judges_nothing():
    assert fields("sent=1&judge=table&kinds=detection&kinds=simulation").kinds == ("simulation",)


def test_unknown_words_count_as_not_chosen():
    form = fields("sent=1&by=99&judge=x&styles=poem&language=fr&mode=magic&kinds=simulation")
    assert (form.by, form.judge, form.language, form.mode) == ("table", "table", "en", "")


def test_embedding_needs_an_endpoint_that_embeds():
    form = fields("sent=1&judge=table&kinds=embedding")
    assert [problem.path for problem in form.missing()] == ["kinds"]
