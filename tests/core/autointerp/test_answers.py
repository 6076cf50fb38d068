import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.answers import (
    read_explanation,
    read_one_token,
    read_sparse_activations,
    read_verdicts,
)
from core.domain.explanation import Answer, Failure, FailureCode
from core.domain.llm import Finish, GeneratedToken, Reply
from tests.support.outcomes import failed, value


def reply(text, finish=Finish.STOP, **changes):
    return Reply(text=text, finish=finish, model="m", **changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" words about rivers.", "words about rivers"),
        ("the main thing this neuron does is find rivers.", "rivers"),
        ("They share water.\n[EXPLANATION]: names of rivers.", "names of rivers"),
        ("<think>hm, [EXPLANATION]: no</think>\n[EXPLANATION]: yes, rivers", "yes, rivers"),
        ("该神经元主要寻找的是河流的名称。", "河流的名称"),
        ('"rivers"', "rivers"),
        ("rivers\n\nNeuron 5\nActivations:", "rivers"),
        ("The **names** of **big rivers**", "The names of big rivers"),
        ("calls of pow, as a**b and **kwargs", "calls of pow, as a**b and **kwargs"),
        ("rivers <|im_end|>", "rivers <·|im_end|>"),
    ],
)
def test_an_explanation_is_found_in_its_answer(text, expected):
    assert read_explanation(reply(text)) == Answer(expected)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", FailureCode.PARSE),
        ("  \n ", FailureCode.PARSE),
        ("...", FailureCode.PARSE),
        ("[EXPLANATION]:", FailureCode.PARSE),
        ("I'm sorry, but I can't help with that.", FailureCode.REFUSAL),
        ("抱歉，我无法回答", FailureCode.REFUSAL),
    ],
)
def test_what_is_no_explanation_is_a_failure_and_never_a_text(text, code):
    outcome = read_explanation(reply(text))
    assert isinstance(outcome, Failure)
    assert outcome.code is code
    assert outcome.raw == text


def test_a_cut_explanation_counts_only_up_to_its_first_whole_sentence():
    whole = read_explanation(reply("names of rivers. It also", Finish.LENGTH))
    assert whole == Answer("names of rivers")
    assert failed(read_explanation(reply("names of", Finish.LENGTH))).code is FailureCode.LENGTH


@pytest.mark.parametrize(
    ("text", "n", "code"),
    [
        ("[1, 0]", 3, FailureCode.COUNT),
        ("[1, 2]", 2, FailureCode.PARSE),
        ("[1, null]", 2, FailureCode.PARSE),
        ('["1", "0"]', 2, FailureCode.PARSE),
        ("[0.5, 1]", 2, FailureCode.PARSE),
        ("yes, no", 2, FailureCode.PARSE),
        ("[1, 0", 2, FailureCode.PARSE),
        ("", 1, FailureCode.PARSE),
    ],
)
def test_verdicts_that_cannot_be_read_are_failures(text, n, code):
    assert failed(read_verdicts(reply(text), n)).code is code


@pytest.mark.parametrize(
    "text",
    [
        "[1, 0]",
        '{"verdicts": [1, 0]}',
        "Let me see: [0, 0] no.\n[1,\n0]",
        "[true, false]",
        "<think>[0, 1]</think>[1, 0]",
    ],
)
def test_verdicts_are_read_in_whatever_dress_they_come(text):
    assert [v.fires for v in value(read_verdicts(reply(text), 2))] == [True, False]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"nonzero": [{"i": 3, "a": 2}]}', FailureCode.COUNT),
        ('{"nonzero": [{"i": -1, "a": 2}]}', FailureCode.COUNT),
        ('{"nonzero": [{"i": 0, "a": 11}]}', FailureCode.PARSE),
        ('{"nonzero": [{"i": 0, "a": null}]}', FailureCode.PARSE),
        ('{"nonzero": [{"i": 0, "a": 1}, {"i": 0, "a": 2}]}', FailureCode.PARSE),
        ('{"nonzero": [{"i": 0', FailureCode.PARSE),
        ('{"other": 1}', FailureCode.PARSE),
        ("[1, 2, 3]", FailureCode.PARSE),
        ('{"activations": [1, 2]}', FailureCode.COUNT),
        ('{"activations": [1, 2, "x"]}', FailureCode.PARSE),
        ("nothing", FailureCode.PARSE),
    ],
)
def test_activations_that_cannot_be_read_are_failures_and_never_zeros(text, code):
    assert failed(read_sparse_activations(reply(text), 3)).code is code


def test_tokens_that_an_answer_leaves_out_do_not_fire():
    outcome = read_sparse_activations(reply('```json\n{"nonzero": [{"i": 1, "a": 7}]}\n```'), 3)
    assert [b.expected for b in value(outcome)] == [0, 7, 0]
    empty = read_sparse_activations(reply('{"nonzero": []}'), 2)
    assert [b.expected for b in value(empty)] == [0, 0]


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(0, 5))
def test_any_answer_is_read_or_refused_without_an_exception(text, n):
    for outcome in (
        read_explanation(reply(text)),
        read_verdicts(reply(text), n),
        read_sparse_activations(reply(text), n),
    ):
        assert isinstance(outcome, Answer | Failure)


def test_a_ten_in_two_tokens_is_put_together():
    one, zero = "1", "0"
    first = GeneratedToken(token=one, logprob=-0.1, top={one: -0.105, zero: -2.3026})
    second = GeneratedToken(token=zero, logprob=-0.05, top={zero: -0.0513, "\n": -2.9957})
    outcome = read_one_token(reply("10", tokens=(first, second)))
    assert value(outcome).expected == pytest.approx(8.595, abs=1e-3)
    nine = read_one_token(reply("1", tokens=(first,)), top=9)
    assert value(nine).expected == pytest.approx(0.9, abs=1e-3)


def test_an_answer_without_log_probabilities_is_a_failure():
    assert failed(read_one_token(reply("7"))).code is FailureCode.NO_LOGPROBS
