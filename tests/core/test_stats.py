import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score

from core.stats import (
    auroc,
    bootstrap_interval,
    confusion,
    cosine,
    explained_variance,
    least_squares,
    pearson,
    resampled_auroc,
    resampled_balanced_accuracy,
    resampled_pearson,
)

FLOATS = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=2, max_size=30))
def test_a_correlation_is_between_minus_one_and_one_or_undefined(pairs):
    x, y = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    value = pearson(x, y)
    assert math.isnan(value) or -1 <= value <= 1
    assert math.isnan(value) == math.isnan(pearson(y, x))


def test_a_constant_side_has_no_correlation_even_when_its_mean_is_rounded():
    constant = np.full(3, 0.1)
    assert math.isnan(pearson(constant, np.array([1.0, 2.0, 4.0])))
    assert math.isnan(pearson(np.array([1.0]), np.array([1.0])))


def test_a_correlation_of_huge_values_does_not_overflow():
    x = np.array([1e300, -1e300, 5e299])
    assert pearson(x, x) == pytest.approx(1.0)


def test_classification_numbers_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels, predicted = rng.random(100) < 0.3, rng.random(100) < 0.5
    counts = confusion(labels, predicted)
    assert counts.f1 == pytest.approx(f1_score(labels, predicted))
    assert counts.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_what_a_missing_class_leaves_undefined_is_not_a_zero():
    counts = confusion(np.array([True, True]), np.array([True, False]))
    assert counts.recall == 0.5
    assert math.isnan(counts.specificity)
    assert math.isnan(counts.balanced_accuracy)
    nothing = confusion(np.zeros(2, dtype=bool), np.zeros(2, dtype=bool))
    assert math.isnan(nothing.f1)


def test_the_least_squares_line_explains_the_squared_correlation():
    rng = np.random.default_rng(2)
    x = rng.normal(size=50)
    y = 2 * x + rng.normal(size=50)
    fitted = least_squares(x, y).apply(x)
    assert explained_variance(y, fitted) == pytest.approx(pearson(x, y) ** 2)
    assert explained_variance(y, fitted) == pytest.approx(r2_score(y, fitted))
    assert fitted.mean() == pytest.approx(y.mean())


def test_a_bootstrap_interval_holds_the_mean_and_is_repeatable():
    values = np.random.default_rng(3).normal(5.0, 1.0, size=40)

    def interval():
        return bootstrap_interval(
            lambda draws: values[draws].mean(axis=1), 40, rng=np.random.default_rng(0)
        )

    found = interval()
    assert found == interval()
    assert found.low < values.mean() < found.high
    nothing = np.full(500, math.nan)
    assert bootstrap_interval(lambda _: nothing, 1, rng=np.random.default_rng(0)) is None
    assert bootstrap_interval(lambda _: nothing, 5, rng=np.random.default_rng(0)) is None


def test_resampled_statistics_equal_the_statistic_of_each_resample():
    rng = np.random.default_rng(7)
    draws = rng.integers(0, 9, size=(60, 9))
    labels, predicted = np.arange(9) < 4, rng.random(9) < 0.5
    got = resampled_balanced_accuracy(labels, predicted, draws)
    wanted = [confusion(labels[d], predicted[d]).balanced_accuracy for d in draws]
    np.testing.assert_allclose(got, wanted, equal_nan=True)
    values = rng.normal(size=9)
    np.testing.assert_allclose(
        resampled_auroc(labels, values, draws),
        [auroc(labels[d], values[d]) for d in draws],
        equal_nan=True,
    )
    items = [
        (rng.gamma(1.0, 5.0, n), rng.normal(50.0, 3.0, n)) for n in (3, 8, 1, 5, 9, 2, 4, 6, 7)
    ]
    wanted = [
        pearson(*(np.concatenate(side) for side in zip(*(items[i] for i in d), strict=True)))
        for d in draws
    ]
    np.testing.assert_allclose(resampled_pearson(items, draws), wanted, rtol=1e-9)


def test_a_resample_without_any_spread_has_no_correlation():
    items = [
        (np.zeros(4), np.array([0.0, 1.0, 0.1, 0.3])),
        (np.array([0.0, 7.1]), np.array([0.2, 3.0])),
    ]
    draws = np.array([[0, 0], [0, 1], [1, 1]])
    got = resampled_pearson(items, draws)
    assert math.isnan(got[0])
    assert np.isfinite(got[1:]).all()
    flat = [(np.full(3, 0.1), np.arange(3.0))]
    assert np.isnan(resampled_pearson(flat, np.zeros((2, 1), dtype=np.int64))).all()


def test_a_zero_vector_has_no_direction():
    assert math.isnan(cosine(np.zeros(2), np.ones(2)))
