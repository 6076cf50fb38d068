"""Plots stay inside their drawing, say what they show, and tell the script what to draw."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.services.jobs.metric_history import make_table
from app.web.curves import Form, Plot, line, ticks_between, written

numbers = st.floats(-1e9, 1e9, allow_nan=False)


def plot_of(column, form=Form.PLAIN):
    table = make_table({"step": i, "loss": v} for i, v in enumerate(column))
    entry = line(table, "loss", "training", tone=1)
    return Plot(key="loss", title="Loss", form=form, lines=(entry,))


@given(st.lists(numbers, max_size=400))
def test_every_corner_and_tick_lies_inside(column):
    drawing = plot_of(column).drawing
    for stroke in drawing.strokes:
        for corner in stroke.corners.split():
            x, y = map(float, corner.split(","))
            assert drawing.left - 0.1 <= x <= drawing.right + 0.1
            assert -0.1 <= y <= drawing.base + 0.1
    assert all(-0.1 <= tick.at <= drawing.base + 0.1 for tick in drawing.y_ticks)
    assert all(drawing.left - 0.1 <= t.at <= drawing.right + 0.1 for t in drawing.x_ticks)


@given(numbers, numbers, st.integers(2, 8))
@example(0.0, 5e-324, 2)  # a range whose part is no number any more
def test_ticks_are_few_and_inside(a, b, most):
    low, high = min(a, b), max(a, b)
    found = ticks_between(low, high, most=most)
    assert 1 <= len(found) + (low < high) <= most + 3
    assert all(low <= t <= high for t in found)


def test_a_plot_without_values_says_so():
    plot = plot_of([])
    assert plot.drawing.label == "Loss: no value yet."
    assert plot.drawing.x_ticks == ()


def test_a_plot_says_its_last_values():
    assert plot_of([0.9, 0.5462]).drawing.label == "Loss: last training 0.546."


def test_the_script_is_told_tables_names_and_how_to_draw():
    assert json.loads(plot_of([1.0]).data) == [
        {"table": "run", "name": "loss", "smooth": True, "dots": False}
    ]


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (2_100_000_000.0, Form.BYTES, "2.1 GB"),
        (95.0, Form.SECONDS, "1 min 35 s"),
        (123_456.0, Form.PLAIN, "123.5K"),
        (-0.5, Form.PERCENT, "−50%"),
    ],
)
def test_values_are_written_by_their_form(value, form, text):
    assert written(value, form) == text
