"""Input at the edge of sense: empty, constant, not finite, deep. Each end is in a docstring."""

import math

import pytest

from core.autointerp import (
    answers,
    beliefs,
    highlights,
    judging,
    lookup,
    measures,
    peers,
    records,
    sampling,
    text,
    triage,
)
from core.domain.activation import ActivationRecord
from core.domain.explanation import Failure, FailureCode, ScoreKind
from core.domain.llm import Finish, Reply
from core.errors import Invalid
from core.llm.wire import chat_reply

NAN, INF = math.nan, math.inf


def record(tokens, activations):
    return ActivationRecord(tokens=tuple(tokens), activations=tuple(activations))


def said(answer):
    return Reply(text=answer, finish=Finish.STOP, model="m")


REFUSED = {
    "activations": lambda: records.normalise_openai([NAN]),
    "a maximum": lambda: records.normalise_openai([1.0], max_activation=INF),
    "delphi's activations": lambda: records.normalise_delphi([INF], max_activation=1.0),
    "a record": lambda: records.make_record([b"a"], [NAN]),
    "real activations": lambda: measures.simulation_numbers([NAN, 1], [0, 1]),
    "simulated activations": lambda: measures.simulation_numbers([0, 1], [INF, 1]),
    "calibration": lambda: measures.linear_calibration([NAN, 1], [0, 1]),
    "percentiles": lambda: measures.percentile_calibration([0, 1], [0, INF], [1]),
    "calibrated values": lambda: measures.apply_line(
        measures.linear_calibration([0, 1], [0, 1]), [NAN]
    ),
    "log-probabilities": lambda: beliefs.expected_value({"1": NAN}),
    "log-probabilities, for OpenAI": lambda: beliefs.expected_value_openai({"1": INF}),
    "log-probabilities, for delphi": lambda: beliefs.expected_value_delphi({"1": NAN}),
    "log-probabilities of verdicts, for delphi": lambda: peers.probability_delphi([("1", NAN)]),
    "log-probabilities by id": lambda: beliefs.belief_from_ids({7: NAN}, {1: (7,)}),
    "probabilities": lambda: beliefs.expected_value_split_ten({"1": NAN}, {}),
    "probabilities below 0": lambda: beliefs.expected_value_split_ten({"1": -0.1}, {}),
    "values to rank": lambda: triage.auroc([True, False], [NAN, 0.2]),
    "losses": lambda: triage.information_value([INF], [0.0]),
    "embeddings": lambda: triage.similarities([1.0, 0.0], [[NAN, 1.0]]),
    "gains": lambda: triage.intervention_score([-INF], [-1.0]),
    "texts to mark": lambda: highlights.highlight_delphi_scorer(["a"], [NAN]),
}


@pytest.mark.parametrize("work", REFUSED.values(), ids=REFUSED)
def test_what_is_not_finite_is_refused_everywhere(work):
    with pytest.raises(Invalid):
        work()


SENSELESS = {
    "no splits": lambda: sampling.split_indices(8, ()),
    "no slices": lambda: sampling.quantile_bounds(5, 0),
    "fewer starts than records": lambda: records.format_records_openai(
        [record("a", [1.0])], start_indices=[]
    ),
    "a start below 0": lambda: records.format_records_openai(
        [record("a", [1.0])], start_indices=[-1]
    ),
    "an activation too few": lambda: records.make_record([b"a", b"b"], [1.0]),
    "a mark outside of the text": lambda: highlights.marked_text(
        ["a"], frozenset({1}), ("<<", ">>")
    ),
    "tokens without activations": lambda: highlights.highlight_delphi_explainer(["a", "b"], [1]),
    "nothing to count marks in": lambda: highlights.n_incorrect_delphi([]),
    "embeddings of two models": lambda: triage.similarities([1, 0], [[1, 0, 0]]),
    "batches of nothing": lambda: judging.judging_plan(
        ScoreKind.DETECTION, judging.JudgeSetting(batch=0), "years", []
    ),
}


@pytest.mark.parametrize("work", SENSELESS.values(), ids=SENSELESS)
def test_what_makes_no_sense_is_refused_in_words(work):
    with pytest.raises(Invalid) as found:
        work()
    assert found.value.hint


def test_nothing_in_gives_nothing_out():
    assert records.normalise_openai([]) == records.normalise_delphi([], max_activation=1.0) == ()
    assert records.format_records_openai([]) == "\n<start>\n\n<end>\n"
    assert sampling.quantile_bounds(3, 10)[0] == (0, 0)
    assert peers.simulated_text_openai("", []) == peers.simulated_text_fork("", []) == ()
    assert lookup.build_lookup([]).predict(["a"]) == (0.0,)
    assert text.visible("") == text.one_line("") == text.one_line("word", max_chars=0) == ""
    assert math.isnan(measures.pooled_numbers([]).correlation)
    assert math.isnan(triage.auroc([], []))
    assert triage.information_value([], []) == 0.0
    assert beliefs.expected_value_split_ten({}, {}).mass == 0.0
    assert judging.judging_plan(ScoreKind.FUZZING, judging.JudgeSetting(), "x", []).questions == ()


def test_whole_numbers_are_as_good_as_fractions():
    whole, broken = record("ab", [1, 4]), record("ab", [1.0, 4.0])
    assert records.normalise_openai([1, 3]) == records.normalise_openai([1.0, 3.0]) == (3, 10)
    assert records.normalise_openai([1], max_activation=2) == (5,)
    assert records.normalise_delphi([1], max_activation=3) == (4,)
    assert records.format_records([whole]) == records.format_records([broken])
    assert records.max_activation([whole]) == 4.0
    assert highlights.highlight_delphi_scorer(["a", "b"], [1, 4], threshold=1) == "a<<b>>"
    assert triage.surprisal_score([2, 1], [1, 0]) == 1.0
    assert lookup.build_lookup([whole]).predict(["b", "z"]) == (4.0, 2.5)


def test_a_peers_number_of_probability_zero_keeps_its_place_and_overwrites_as_any_other():
    impossible = beliefs.expected_value_openai({"0": -0.5, "10": -INF})
    assert (impossible.expected, dict(impossible.distribution)) == (0.0, {0: 1.0, 10: 0.0})
    overwritten = beliefs.expected_value_delphi({"3": -0.5, " 3": -INF, "1": -2.0})
    assert (overwritten.expected, dict(overwritten.distribution)) == (1.0, {1: 1.0, 3: 0.0})
    assert beliefs.expected_value_openai({"4": -INF}).expected == 0.0


def test_a_number_that_no_float_holds_is_read_as_the_peer_reads_what_is_out_of_range():
    answer = '{"activations": [{"token": "a", "activation": %s}]}' % ("9" * 400)
    assert peers.simulated_json_fork(answer, ["a"]) == (0.0,)


@pytest.mark.parametrize("depth", [10, 200_000])
def test_brackets_without_end_are_an_answer_that_cannot_be_read(depth):
    deep = '{"a":' * depth + "1" + "}" * depth
    found = answers.read_sparse_activations(said(deep), 2)
    assert isinstance(found, Failure)
    assert found.code is FailureCode.PARSE
    assert isinstance(answers.read_verdicts(said("[" * depth), 2), Failure)
    assert peers.verdicts_delphi("[" * depth + "]", 1) is peers.DelphiParseError.JSON


def test_a_probability_above_one_is_left_out_of_what_a_server_sent():
    strange = [{"token": str(i), "logprob": lp} for i, lp in enumerate([900.0, 10**400, NAN], 1)]
    top = [*strange, {"token": "0", "logprob": -0.5}]
    content = [{"token": "0", "logprob": -0.5, "top_logprobs": top}]
    choice = {"message": {"content": "0"}, "logprobs": {"content": content}}
    (token,) = chat_reply({"choices": [choice]}).value.tokens  # type: ignore[union-attr]
    assert dict(token.top) == {"0": -0.5}
