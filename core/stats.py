"""Statistics behind scores: correlation, explained variance, classification, intervals.

Undefined results are NaN here and never 0; whoever stores them turns NaN into a reason.
Axis words: ``pos`` pooled token positions, ``item`` judged contexts, ``d`` embedding width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from core.domain.explanation import Interval
from core.errors import Invalid

Draws = Int[np.ndarray, "resample item"]
_FLAT = 1e-12  # share of the sum of squares below which a spread is rounding alone


def pearson(x: Float[np.ndarray, " pos"], y: Float[np.ndarray, " pos"]) -> float:
    """Pearson's correlation in [-1, 1]; NaN when either side is constant or has one value.

    >>> round(pearson(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 4.0])), 9)
    1.0
    >>> pearson(np.array([0.1, 0.1, 0.1]), np.array([0.0, 2.0, 4.0]))
    nan
    """
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    u, v = _centred(x), _centred(y)
    norms = float(np.linalg.norm(u) * np.linalg.norm(v))
    return float(np.clip(u @ v / norms, -1.0, 1.0)) if norms > 0 else math.nan


def uncentred_r2(true: Float[np.ndarray, " pos"], predicted: Float[np.ndarray, " pos"]) -> float:
    """``1 - mean((t - p)^2) / mean(t^2)``: OpenAI's ``rsquared_score``.

    -inf when all true values are 0 and a prediction is not; NaN when all are 0 or without values.
    """
    return _one_minus_ratio(np.square(true - predicted), np.square(true))


def absolute_deviation_explained(
    true: Float[np.ndarray, " pos"], predicted: Float[np.ndarray, " pos"]
) -> float:
    """``1 - mean|t - p| / mean|t|``: OpenAI's ``absolute_dev_explained_score``.

    -inf when all true values are 0 and a prediction is not; NaN when all are 0 or without values.
    """
    return _one_minus_ratio(np.abs(true - predicted), np.abs(true))


def explained_variance(
    true: Float[np.ndarray, " pos"], predicted: Float[np.ndarray, " pos"]
) -> float:
    """``1 - mean((t - p)^2) / var(t)``, the centred R²; NaN when the true side is constant."""
    if len(true) < 2 or np.ptp(true) == 0:
        return math.nan
    return _one_minus_ratio(np.square(true - predicted), np.square(true - true.mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The map ``value -> slope * value + intercept``."""

    slope: float
    intercept: float

    def apply(self, values: Float[np.ndarray, " pos"]) -> Float[np.ndarray, " pos"]:
        """The mapped values."""
        return self.slope * values + self.intercept


def least_squares(x: Float[np.ndarray, " pos"], y: Float[np.ndarray, " pos"]) -> Line:
    """The line from x to y of least squares; constant x gives the mean of y.

    Raises:
        Invalid: no values.
    """
    if len(x) == 0:
        raise Invalid("A line needs at least one value.", hint="Give calibration records.")
    dx = x - x.mean()
    spread = float(dx @ dx)
    slope = 0.0 if np.ptp(x) == 0 else float(dx @ (y - y.mean())) / spread
    return Line(slope=slope, intercept=float(y.mean() - slope * x.mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of true and false positives and negatives."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def precision(self) -> float:
        """Share of predicted positives that are right; NaN without any."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of positives that are found; NaN without any."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of negatives that are left alone; NaN without any."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def accuracy(self) -> float:
        """Share of all that are right; NaN without any."""
        return _share(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of recall and specificity; NaN unless both classes are there."""
        return (self.recall + self.specificity) / 2

    @property
    def f1(self) -> float:
        """``2 tp / (2 tp + fp + fn)``; NaN when nothing is positive, truly or by prediction."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def confusion(labels: Bool[np.ndarray, " item"], predicted: Bool[np.ndarray, " item"]) -> Confusion:
    """Counts of labels against predictions."""
    return Confusion(
        tp=int(np.sum(labels & predicted)),
        fp=int(np.sum(~labels & predicted)),
        tn=int(np.sum(~labels & ~predicted)),
        fn=int(np.sum(labels & ~predicted)),
    )


def auroc(labels: Bool[np.ndarray, " item"], values: Float[np.ndarray, " item"]) -> float:
    """Chance that a positive's value exceeds a negative's, ties counting half.

    NaN unless both classes are there.

    >>> auroc(np.array([True, True, False]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    n_pos = int(labels.sum())
    n_neg = len(labels) - n_pos
    if n_pos == 0 or n_neg == 0:
        return math.nan
    rank_sum = float(mean_ranks(values)[labels].sum())
    return (rank_sum - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def mean_ranks(values: Float[np.ndarray, " item"]) -> Float[np.ndarray, " item"]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse].astype(np.float64)


def cosine(x: Float[np.ndarray, " d"], y: Float[np.ndarray, " d"]) -> float:
    """Cosine of the angle between two vectors; NaN when one of them is 0."""
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norms if norms > 0 else math.nan


def bootstrap_interval(
    statistic: Callable[[Draws], Float[np.ndarray, " resample"]],
    n_items: int,
    *,
    rng: np.random.Generator,
    n_resamples: int = 500,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of a statistic over whole items drawn with replacement.

    Args:
        statistic: one value a resample, given the indices of each; NaN values are left out.
        n_items: number of items; the unit of resampling is a context, never a token.
        rng: source of randomness.
        n_resamples: number of resamples.
        level: share of resamples inside.

    Returns:
        None with fewer than two items, or when half of the resamples are undefined.
    """
    if n_items < 2:
        return None
    draws = rng.integers(0, n_items, size=(n_resamples, n_items))
    values = statistic(draws)
    values = values[np.isfinite(values)]
    if len(values) < n_resamples / 2:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))


def resampled_balanced_accuracy(
    labels: Bool[np.ndarray, " item"], predicted: Bool[np.ndarray, " item"], draws: Draws
) -> Float[np.ndarray, " resample"]:
    """Balanced accuracy of each resample; NaN where a class is missing."""
    columns = (labels, labels & predicted, ~labels, ~labels & ~predicted)
    sums = _times_drawn(draws) @ np.stack(columns, axis=1).astype(np.float64)
    positive, found, negative, spared = sums.T
    both = (positive > 0) & (negative > 0)
    shares = found / np.maximum(positive, 1) + spared / np.maximum(negative, 1)
    return np.asarray(np.where(both, shares / 2, np.nan))


def resampled_auroc(
    labels: Bool[np.ndarray, " item"], values: Float[np.ndarray, " item"], draws: Draws
) -> Float[np.ndarray, " resample"]:
    """AUROC of each resample; NaN where a class is missing."""
    return np.array([auroc(labels[draw], values[draw]) for draw in draws], dtype=np.float64)


def resampled_pearson(
    items: Sequence[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]], draws: Draws
) -> Float[np.ndarray, " resample"]:
    """Pearson's correlation over the pooled positions of each resample's items.

    From sums of each item, with both sides centred on all items, so that a resample costs a few
    additions; NaN where a side is constant.
    """
    x = np.concatenate([np.zeros(0), *(pair[0] for pair in items)])
    y = np.concatenate([np.zeros(0), *(pair[1] for pair in items)])
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.full(len(draws), np.nan)
    u, v = _centred(x), _centred(y)
    ends = np.cumsum([len(pair[0]) for pair in items])[:-1]
    parts = zip(np.split(u, ends), np.split(v, ends), strict=True)
    sums = np.array([(len(a), a.sum(), b.sum(), a @ a, b @ b, a @ b) for a, b in parts])
    n, su, sv, uu, vv, uv = sums[draws].sum(axis=1).T
    n = np.maximum(n, 1)
    spread_u, spread_v = uu - su**2 / n, vv - sv**2 / n
    flat = (spread_u <= _FLAT * uu) | (spread_v <= _FLAT * vv) | (uu == 0) | (vv == 0)
    spread = np.where(flat, 1.0, spread_u * spread_v)
    return np.where(flat, np.nan, np.clip((uv - su * sv / n) / np.sqrt(spread), -1.0, 1.0))


def _times_drawn(draws: Draws) -> Float[np.ndarray, "resample item"]:
    """How often each item is in each resample."""
    n_resamples, n_items = draws.shape
    places = draws + n_items * np.arange(n_resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_resamples * n_items)
    return counts.reshape(draws.shape).astype(np.float64)


def _centred(values: Float[np.ndarray, " pos"]) -> Float[np.ndarray, " pos"]:
    scaled = values / np.abs(values).max()  # keeps squares inside the range of floats
    return np.asarray(scaled - scaled.mean(), dtype=np.float64)


def _one_minus_ratio(
    numerator: Float[np.ndarray, " pos"], denominator: Float[np.ndarray, " pos"]
) -> float:
    if len(numerator) == 0:
        return math.nan
    top, bottom = float(numerator.mean()), float(denominator.mean())
    if bottom == 0:
        return math.nan if top == 0 else -math.inf
    return 1 - top / bottom


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
