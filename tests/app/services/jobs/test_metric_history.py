"""Histories are small enough for a page and lose no extreme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.jobs.metric_history import make_table, thinned

values = st.one_of(st.none(), st.floats(-1e4, 1e4, width=16))
columns = st.lists(values, min_size=0, max_size=300)


def rows_of(column, name="loss"):
    return [{"step": i, name: v} if v is not None else {"step": i} for i, v in enumerate(column)]


def test_a_short_history_is_kept_as_it_is():
    table = make_table([{"step": 0, "eval_loss": 2.0}, {"step": 1, "loss": 1.5}])
    assert table.steps == (0, 1)
    assert table.columns == {"eval_loss": (2.0, None), "loss": (None, 1.5)}


def test_rows_that_do_not_go_on_are_left_out():
    table = make_table([{"step": 2, "a": 1.0}, {"step": 2, "a": 9.0}, {"step": 1, "a": 9.0}])
    assert table.points("a") == ((2, 1.0),)


def test_what_is_no_number_is_no_value():
    table = make_table([{"step": 1, "a": "text", "b": 1}])
    assert table.columns == {"a": (None,), "b": (1,)}


def test_no_rows_make_an_empty_table():
    table = make_table([])
    assert (table.n_rows, table.last("loss"), table.points("loss")) == (0, None, ())


@given(columns, st.integers(10, 100))
def test_a_long_history_has_at_most_so_many_rows_and_all_extremes(column, most):
    table = make_table(rows_of(column), most=most)
    assert table.n_rows <= most
    assert all(a < b for a, b in zip(table.steps, table.steps[1:], strict=False))
    seen = [v for v in column if v is not None]
    kept = [v for _, v in table.points("loss")]
    if seen:
        assert min(kept) == pytest.approx(min(seen), rel=1e-5)
        assert max(kept) == pytest.approx(max(seen), rel=1e-5)


@given(st.lists(st.floats(-1e3, 1e3, width=16), min_size=1, max_size=300), st.integers(10, 100))
def test_the_last_row_stays_as_it_was(column, most):
    table = make_table(rows_of(column), most=most)
    assert table.steps[-1] == len(column) - 1
    assert table.last("loss") == pytest.approx(column[-1], rel=1e-5)


def test_a_rare_number_is_not_lost_among_frequent_ones():
    rows = [{"step": i, "loss": 1.0} | ({"eval": i} if i % 100 == 0 else {}) for i in range(1000)]
    table = make_table(rows, most=50)
    assert [v for _, v in table.points("eval")] == list(range(0, 1000, 100))
    assert all(abs(step - v) <= 1000 / 20 for step, v in table.points("eval"))


def test_a_line_is_thinned_with_its_peak():
    line = [(float(x), 9.0 if x == 77 else 0.0) for x in range(500)]
    few = thinned(line, 40)
    assert len(few) <= 40
    assert max(y for _, y in few) == 9.0
