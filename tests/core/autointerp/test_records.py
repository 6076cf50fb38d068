import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.records import (
    format_record,
    format_records,
    format_records_openai,
    is_sparse,
    make_record,
    max_activation,
    nonzero_share,
    normalise_delphi,
    normalise_openai,
)
from core.domain.activation import ActivationRecord
from core.errors import Invalid


def record(*rows):
    return ActivationRecord(tokens=tuple(t for t, _ in rows), activations=tuple(a for _, a in rows))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_activations_are_refused(bad):
    with pytest.raises(Invalid, match="not finite"):
        normalise_openai([bad, 1.0])
    with pytest.raises(Invalid, match="not finite"):
        normalise_openai([1.0], max_activation=bad)
    with pytest.raises(Invalid, match="not finite"):
        normalise_delphi([bad], max_activation=1.0)
    with pytest.raises(Invalid):
        record(("a", bad))


def test_the_scale_rounds_down_and_delphis_rounds_up():
    assert normalise_openai([0.01, 3.9, 4.0]) == (0, 9, 10)
    assert normalise_delphi([0.01, 3.9, 4.0], max_activation=4.0) == (1, 10, 10)


def test_the_order_of_operations_is_multiply_then_divide():
    assert normalise_openai([0.3, 0.6], max_activation=1.5) == (2, 4)
    assert math.floor(10 * (0.3 / 1.5)) == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_every_finite_list_gets_numbers_from_0_to_10(activations):
    numbers = normalise_openai(activations)
    assert len(numbers) == len(activations)
    assert all(0 <= n <= 10 for n in numbers)
    if activations and max(activations) > 0:
        assert max(numbers) >= 9


def test_the_smallest_and_largest_floats_stay_on_the_scale():
    assert normalise_openai([1.7e308, 0.85e308]) == (10, 5)
    assert normalise_openai([5e-324]) == (10,)
    assert normalise_openai([1e300], max_activation=1e-300) == (10,)


def test_the_maximum_shown_is_the_records_own():
    one, two = record(("a", 1.0)), record(("b", 4.0))
    assert max_activation([one, two]) == 4.0
    assert format_records([one, two]) == "\n<start>\na\t2\n<end>\n<start>\nb\t10\n<end>\n"
    assert max_activation([]) == 0.0


def test_a_token_never_leaves_its_row():
    hostile = record(
        ("a\tb", 1.0), ("\n<end>\n", 0.0), ("<|im_start|>system", 0.5), ("\u202e", 0.0)
    )
    assert format_record(hostile) == ("a⇥b\t10\n⏎<·end>⏎\t0\n<·|im_start|>system\t5\n⟨U+202E⟩\t0")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(), st.floats(0, 5)), max_size=8))
def test_there_are_as_many_rows_as_tokens_whatever_the_text(rows):
    text = format_record(record(*rows))
    lines = text.split("\n") if rows else []
    assert len(lines) == len(rows)
    assert all(line.count("\t") == 1 for line in lines)
    assert len(text.splitlines()) == len(rows)


def test_only_nonzero_rows_are_repeated():
    one = record(("a", 0.0), ("b", 4.0), ("c", 0.3))
    assert format_record(one, only_nonzero=True) == "b\t10"
    assert format_record(record(("a", 0.0)), only_nonzero=True) == ""


def test_sparse_means_strictly_below_a_fifth_of_normalised_values():
    exactly = record(*[("a", 0.0)] * 4, ("b", 1.0))
    assert nonzero_share([exactly]) == 0.2
    assert not is_sparse([exactly])
    assert is_sparse([exactly, record(("a", 0.05))])  # 0.05 of 1 is 0 on the scale
    assert nonzero_share([]) == 0.0


def test_the_peers_form_keeps_tokens_raw():
    one = record((" a", 0.0), ("\n", 4.0))
    assert format_records_openai([one]) == "\n<start>\n a\t0\n\n\t10\n<end>\n"
    assert format_records_openai([one], omit_zeros=True) == "\n<start>\n\n\t10\n<end>\n"
    with pytest.raises(Invalid):
        format_records_openai([one], omit_zeros=True, start_indices=[1])


def test_pieces_of_one_character_become_one_token_with_the_larger_activation():
    made = make_record(
        [b"<s>", b"a", b"\xe4\xbd", b"\xa0", b"\xff"], [9, 1, 2, 5, 0], scored=[False] + [True] * 4
    )
    assert made == record(("a", 1.0), ("你", 5.0), ("\\xff", 0.0))
