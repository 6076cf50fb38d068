"""Fifteen things that peers get wrong, each with a test that ours gets it right."""

import math
import random

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from core.autointerp import beliefs, highlights, measures, peers
from core.autointerp.answers import read_sparse_activations, read_verdicts
from core.autointerp.explain import explain_from_records
from core.autointerp.highlights import active_positions, marked_text, wrong_positions
from core.autointerp.judging import JudgedContext, Judgement, JudgeSetting, judging_plan
from core.autointerp.records import is_sparse, normalise_delphi, normalise_openai
from core.autointerp.sampling import (
    RANDOM_SPLITS,
    TOP_SPLITS,
    Specimen,
    SplitName,
    split_indices,
    split_specimens,
)
from core.autointerp.scoring import SimulatedRecord, classification_score, simulation_score
from core.autointerp.simulate import SimulatorSetting, simulation_plan
from core.autointerp.triage import auroc
from core.domain.activation import ActivationRecord, Band
from core.domain.explanation import (
    Answer,
    Failure,
    FailureCode,
    Metric,
    Missing,
    ScoreKind,
    Simulation,
    SimulationMode,
)
from core.domain.llm import Finish, GeneratedToken, Reply
from tests.support.outcomes import failed, measured, messages, value


def record(activations, tokens=None):
    texts = tokens or [f" t{i}" for i in range(len(activations))]
    return ActivationRecord(tokens=tuple(texts), activations=tuple(float(a) for a in activations))


def reply(text, **changes):
    return Reply(text=text, finish=Finish.STOP, model="m", **changes)


def simulated(true, predicted):
    simulation = Simulation(
        values=tuple(None if p is None else float(p) for p in predicted),
        mode=SimulationMode.SCHEMA,
        scale_top=10,
        mass=None,
        judge="m",
    )
    return SimulatedRecord(record=record(true), outcome=Answer(simulation))


FAILED = Failure(code=FailureCode.TIMEOUT, message="slow")


def test_1_a_ten_that_is_two_tokens_is_not_read_as_one():
    p_first, p_second = {"1": 0.95, "0": 0.05}, {"0": 0.98, "\n": 0.02}
    naive = beliefs.expected_value_openai({t: math.log(p) for t, p in p_first.items()})
    assert naive.expected < 1
    assert beliefs.expected_value_split_ten(p_first, p_second).expected > 9
    setting = SimulatorSetting(mode=SimulationMode.ONE_AT_A_TIME, scale_top=9)
    prompt = messages(simulation_plan(setting, "x", ("a",)).questions[0])
    assert "from 0 to 9" in prompt[0].content


def test_2_numbers_are_rounded_down_after_multiplying_first():
    assert normalise_openai([0.3, 1.5]) == (2, 10)
    assert normalise_delphi([0.3, 1.5], max_activation=1.5) == (2, 10)
    assert normalise_openai([0.01, 1.5]) == (0, 10)
    assert normalise_delphi([0.01, 1.5], max_activation=1.5) == (1, 10)


def test_3_what_becomes_ten_is_the_maximum_of_what_is_shown():
    last = messages(explain_from_records([record([0.0, 2.0]), record([1.0, 0.5])]))[-1]
    assert " t1\t10" in last.content
    assert " t0\t5" in last.content


def test_4_sparse_is_strictly_below_a_fifth_of_pooled_normalised_values():
    assert not is_sparse([record([0, 0, 0, 0, 1])])
    assert is_sparse([record([0.05] * 5 + [1.0])])
    assert is_sparse([record([1.0, 1.0]), record([0.0] * 18)])


def test_5_explanations_and_scores_use_the_right_fifths_in_the_right_order():
    top = split_indices(20, TOP_SPLITS)
    rand = split_indices(15, RANDOM_SPLITS)
    assert top[SplitName.EXPLAIN] == (0, 4, 8, 12, 16)
    assert top[SplitName.SCORE] == (2, 6, 10, 14, 18)
    assert rand[SplitName.SCORE] == (1, 4, 7, 10, 13)


def test_6_without_any_number_there_is_a_failure_and_no_zero():
    assert beliefs.expected_value_openai({"the": -0.1}).expected == 0.0
    assert failed(beliefs.expected_value({"the": -0.1})).code is FailureCode.NO_DIGITS
    far = {"0": -800.0, "10": -800.0}
    assert value(beliefs.expected_value(far)).expected == pytest.approx(5.0)


def test_7_the_score_pools_raw_activations_and_says_why_it_is_undefined():
    score = simulation_score(
        top=[simulated([0, 4, 0], [0, 8, 0])], random=[simulated([-1, 0, 0], [0, 0, 1])]
    )
    pooled = np.corrcoef([0, 4, 0, -1, 0, 0], [0, 8, 0, 0, 0, 1])[0, 1]
    assert score.metrics[Metric.TOP_AND_RANDOM].value == pytest.approx(pooled)
    flat = simulation_score(top=[simulated([0, 4, 0], [3, 3, 3])], random=[])
    measure = flat.metrics[Metric.TOP_AND_RANDOM]
    assert (measure.value, measure.missing) == (None, Missing.CONSTANT_PREDICTION)
    assert flat.metrics[Metric.RANDOM_ONLY].missing is Missing.NOTHING_ANSWERED


def test_8_calibration_stands_beside_the_correlation_and_never_flips_it():
    true, predicted = [0, 1, 2, 5], [0, 1, 3, 6]
    negative = [simulated([3, 2, 1, 0.5], [0, 1, 2, 3])]
    score = simulation_score(top=[simulated(true, predicted)], random=[], calibration=negative)
    assert measured(score, Metric.TOP_AND_RANDOM) > 0.99
    assert measured(score, Metric.CALIBRATED_R2) < 0
    fitted = LinearRegression().fit(np.array(predicted).reshape(-1, 1), true)
    line = measures.linear_calibration(predicted, true)
    assert (line.slope, line.intercept) == pytest.approx((fitted.coef_[0], fitted.intercept_))


def test_9_the_last_token_counts_and_a_wrong_count_is_a_failure():
    assert peers.simulated_text_openai("a\t4༗\nb\t7༗\n", ["a", "b"]) == (4, 0)
    answer = '{"nonzero": [{"i": 0, "a": 4}, {"i": 1, "a": 7}]}'
    got = read_sparse_activations(reply(answer), 2)
    assert [b.expected for b in value(got)] == [4, 7]
    assert peers.simulated_json_fork('{"activations": []}', ["a"]) == (0,)
    assert (
        failed(read_sparse_activations(reply('{"activations": []}'), 1)).code is FailureCode.COUNT
    )


def test_10_a_few_shot_token_never_carries_the_explanation_under_test():
    plan = simulation_plan(
        SimulatorSetting(mode=SimulationMode.ONE_AT_A_TIME), "the word river", ("a",)
    )
    *before, last = messages(plan.questions[0])
    assert all("river" not in message.content for message in before)
    assert "the word river" in last.content


def specimens_with_twins():
    made = []
    for i in range(40):
        text = [f" w{i % 30}", " x", " y"]  # ten texts occur twice
        band = Band.TOP if i < 20 else Band.RANDOM
        fires = [float(40 - i), 0.0, 0.0] if i < 26 else [0.0, 0.0, 0.0]
        made.append(Specimen(context_index=i, band=band, record=record(fires, text)))
    return made


def test_11_nothing_that_was_explained_from_is_scored_on_neither_by_id_nor_by_text():
    split = split_specimens(specimens_with_twins(), rng=random.Random(0))
    scored = [*split.score_top, *split.score_random, *split.positives, *split.negatives]
    fitted = [*split.calibrate_top, *split.calibrate_random]
    assert split.n_duplicates == 10
    for group in (split.explain, fitted):
        assert not {s.context_index for s in group} & {s.context_index for s in scored}
        assert not {s.text for s in group} & {s.text for s in scored}
    assert split.explain
    assert split.score_top
    assert split.negatives


def test_12_contexts_are_cut_once_and_shown_whole():
    one = record([0.0, 3.0, 0.0])
    assert marked_text(one.tokens, active_positions(one), ("<<", ">>")) == " t0<< t1>> t2"


def test_13_failures_are_counted_by_code_and_below_four_fifths_there_is_no_score():
    contexts = [
        JudgedContext(record=record([1.0]), context_index=i, label=i % 2 == 0) for i in range(10)
    ]
    batch = reply("[1, 0, 1, 0, 1]")
    verdicts = [Answer(v) for v in value(read_verdicts(batch, 5))]
    judgement = Judgement(verdicts=(*verdicts, *([FAILED] * 5)), judge="m")
    score = classification_score(ScoreKind.DETECTION, contexts, judgement)
    assert (score.n, score.n_ok, score.failures) == (10, 5, {FailureCode.TIMEOUT: 5})
    assert score.metrics[Metric.F1].missing is Missing.LOW_COVERAGE
    assert peers.classification_peers([[True, None]]).precision == 0


def test_14_an_error_on_a_negative_is_no_right_answer_and_always_yes_stands_at_a_half():
    errors: list[bool | str] = ["Error"] * 5
    assert peers.recall_alt_neuronpedia([True] * 20, errors, errors) == 1.0
    always = peers.recall_alt_neuronpedia([True] * 20, [True] * 5, [True] * 5)
    assert always == pytest.approx(2 / 3)
    contexts = [
        JudgedContext(record=record([1.0]), context_index=i, label=i < 20) for i in range(30)
    ]
    yes = value(read_verdicts(reply(str([1] * 30)), 30))
    judgement = Judgement(verdicts=tuple(Answer(v) for v in yes), judge="m")
    score = classification_score(ScoreKind.DETECTION, contexts, judgement)
    assert score.metrics[Metric.BALANCED_ACCURACY].value == 0.5
    nothing = Judgement(verdicts=(*judgement.verdicts[:20], *([FAILED] * 10)), judge="m")
    failed = classification_score(ScoreKind.DETECTION, contexts, nothing)
    assert failed.metrics[Metric.BALANCED_ACCURACY].value is None


def test_15_a_silent_context_has_no_marks_and_wrong_marks_differ_between_contexts():
    silent = record([0.0] * 12)
    everything = highlights.highlight_delphi_scorer(silent.tokens, silent.activations)
    assert everything.startswith("<<")
    assert active_positions(silent) == frozenset()
    rng = random.Random(0)
    places = {wrong_positions(silent, 2, rng=rng) for _ in range(8)}
    assert len(places) > 1
    fixed = {highlights.incorrect_positions_delphi(silent.activations, 2) for _ in range(8)}
    assert len(fixed) == 1
    active = record([0.0, 5.0, 0.0])
    assert all(1 not in wrong_positions(active, 2, rng=rng) for _ in range(5))


def test_a_batch_that_is_shorter_than_the_others_can_be_read():
    contexts = [JudgedContext(record=record([1.0]), context_index=i, label=True) for i in range(7)]
    plan = judging_plan(ScoreKind.DETECTION, JudgeSetting(batch=5), "x", contexts)
    outcomes = [
        plan.questions[0].read(reply("[1, 1, 1, 1, 1]")),
        plan.questions[1].read(reply("[0, 1]")),
    ]
    verdicts = value(plan.join(outcomes)).verdicts
    assert [value(v).fires for v in verdicts] == [True] * 5 + [False, True]
    assert peers.verdicts_delphi("[0, 1]", 5) is peers.DelphiParseError.LENGTH


def test_a_probability_is_read_from_the_digit_alone():
    tokens = tuple(
        GeneratedToken(token=t, logprob=-0.1, top=top)
        for t, top in (
            ("[", {"[": -0.1}),
            ("1", {"1": math.log(0.6), " 1": math.log(0.2), "0": math.log(0.1), "10": -3.0}),
            ("]", {"]": -0.1}),
        )
    )
    verdict = value(read_verdicts(reply("[1]", tokens=tokens), 1))[0]
    assert verdict.probability == pytest.approx(0.8 / 0.9)
    assert peers.probability_delphi([["10", math.log(0.5)], ["1", math.log(0.4)]]) < 0.5


def test_auroc_agrees_with_scikit_learn_also_with_ties():
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.3
    values = rng.integers(0, 6, 200).astype(float)
    got = auroc(labels.tolist(), values.tolist())
    assert got == pytest.approx(roc_auc_score(labels, values))
