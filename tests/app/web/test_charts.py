"""Charts stay inside their drawing and say what they show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.charts import density_chart, histogram_chart, nice_ticks, percent_text, quantile
from core.domain.activation import Histogram

counts = st.lists(st.integers(0, 2**31), min_size=64, max_size=64)


def histogram(values, exponent=3):
    return Histogram(exponent=exponent, counts=np.array(values, dtype=np.uint32))


@given(counts, st.integers(-20, 20), st.floats(0.01, 0.999))
def test_bars_stay_inside_the_drawing(values, exponent, share):
    chart = histogram_chart(histogram(values, exponent), maximum=share * 2.0**exponent)
    for bar in chart.bars:
        assert chart.left <= bar.x <= chart.width
        assert chart.top - 0.1 <= bar.y <= chart.base
        assert bar.y + bar.height == pytest.approx(chart.base, abs=0.02)
    assert all(0 <= tick.at <= chart.base for tick in chart.y_ticks)


@given(counts.filter(any), st.floats(0, 1))
def test_a_quantile_lies_in_the_range_and_grows(values, share):
    shown = histogram(values)
    assert 0 <= quantile(shown, share) <= 8.0
    assert quantile(shown, share / 2) <= quantile(shown, share) + 1e-9


def test_an_empty_histogram_has_quantile_zero():
    assert quantile(histogram([0] * 64), 0.5) == 0.0


def test_every_living_feature_is_in_the_density_chart():
    density = np.array([0.0, 1e-5, 1e-5, 0.3, 1.0])
    chart = density_chart(density)
    assert sum(bar.count for bar in chart.bars) == 4
    assert chart.label.startswith("Density of 4 living features")


@pytest.mark.parametrize("density", [np.zeros(3), np.ones(2), np.array([])])
def test_an_sae_without_spread_has_a_density_chart_too(density):
    assert density_chart(density).bars


@given(st.floats(1e-9, 1e9))
def test_ticks_are_few_and_inside(span):
    ticks = nice_ticks(span)
    assert 1 <= len(ticks) <= 6
    assert all(0 <= tick <= span * 1.001 for tick in ticks)


@given(st.floats(1e-7, 1))
def test_a_share_typed_as_percent_is_read_back(share):
    assert float(percent_text(share)) == pytest.approx(100 * share, rel=6e-3, abs=1e-9)
