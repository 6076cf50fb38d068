"""Numbers that say how well simulated activations match the real ones.

Everything is pooled: activations of all contexts are concatenated first and compared once, on the
raw activations. Averaging per-context correlations would be wrong, since most random contexts have
no correlation at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from core.autointerp.finite import check_finite
from core.domain.explanation import Number
from core.errors import Invalid
from core.stats import (
    Line,
    absolute_deviation_explained,
    least_squares,
    pearson,
    uncentred_r2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedContext:
    """Real and simulated activations of one context, finite and of equal length.

    Attributes:
        true: raw activations.
        predicted: expected values on the simulator's scale, 0–10 before calibration.
    """

    true: tuple[Number, ...]
    predicted: tuple[Number, ...]

    def __post_init__(self) -> None:
        if len(self.true) != len(self.predicted):
            raise Invalid(
                f"{len(self.true)} real but {len(self.predicted)} simulated activations.",
                hint="Simulate every token exactly once.",
            )
        check_finite((*self.true, *self.predicted), what="Activation")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationNumbers:
    """OpenAI's three scores of a simulation; NaN where undefined, never 0.

    Attributes:
        correlation: Pearson, ``ev_correlation_score``.
        r2: ``1 - mean((t - p)^2) / mean(t^2)``, not centred, ``rsquared_score``.
        absolute_deviation: ``1 - mean|t - p| / mean|t|``.
    """

    correlation: float
    r2: float
    absolute_deviation: float


def simulation_numbers(true: Sequence[Number], predicted: Sequence[Number]) -> SimulationNumbers:
    """The three scores of one pair of equally long lists.

    The correlation is NaN when either side is constant or has one value; the other two are -inf
    when all true activations are 0 and NaN when the predictions are 0 too, or without values.

    >>> simulation_numbers([0, 1, 2, 5], [0, 1, 2, 5]).r2
    1.0

    Raises:
        Invalid: the lists differ in length, or a number is not finite.
    """
    context = SimulatedContext(true=tuple(true), predicted=tuple(predicted))
    return pooled_numbers([context])


def pooled_numbers(contexts: Sequence[SimulatedContext]) -> SimulationNumbers:
    """The three scores over the concatenation of all contexts."""
    true, predicted = pooled(contexts)
    return SimulationNumbers(
        correlation=pearson(true, predicted),
        r2=uncentred_r2(true, predicted),
        absolute_deviation=absolute_deviation_explained(true, predicted),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeScores:
    """Pooled correlations by which contexts are counted; NaN where undefined."""

    top_only: float
    random_only: float
    top_and_random: float


def mode_scores(top: Sequence[SimulatedContext], random: Sequence[SimulatedContext]) -> ModeScores:
    """The paper's "random-only" and "top-and-random", and "top-only" of some re-implementations."""
    return ModeScores(
        top_only=pooled_numbers(top).correlation,
        random_only=pooled_numbers(random).correlation,
        top_and_random=pooled_numbers([*top, *random]).correlation,
    )


def pooled(
    contexts: Sequence[SimulatedContext],
) -> tuple[Float[np.ndarray, " pos"], Float[np.ndarray, " pos"]]:
    """Real and simulated activations of all contexts, each as one float64 array."""
    true = [value for context in contexts for value in context.true]
    predicted = [value for context in contexts for value in context.predicted]
    return np.array(true, dtype=np.float64), np.array(predicted, dtype=np.float64)


def linear_calibration(uncalibrated: Sequence[Number], true: Sequence[Number]) -> Line:
    """The least-squares line from simulated to real activations.

    Fitted on calibration contexts as OpenAI's code does; fitted on the scored ones it is the
    paper's calibration, whose mean is the real mean and whose explained variance is correlation².
    A negative slope flips the sign of the correlation; constant simulated values give the line
    of the real mean.

    Raises:
        Invalid: no values, not equally many, or one that is not finite.
    """
    _same_length(uncalibrated, true)
    check_finite((*uncalibrated, *true))
    return least_squares(np.array(uncalibrated, np.float64), np.array(true, np.float64))


def apply_line(line: Line, values: Sequence[Number]) -> tuple[float, ...]:
    """The calibrated values.

    Raises:
        Invalid: a value is not finite.
    """
    check_finite(values)
    return tuple(float(value) for value in line.apply(np.array(values, dtype=np.float64)))


def percentile_calibration(
    uncalibrated: Sequence[Number], true: Sequence[Number], values: Sequence[Number]
) -> tuple[float, ...]:
    """Values mapped so that the n-th smallest simulated becomes the n-th smallest real one.

    Between them straight lines; outside the ends stay. Source: OpenAI's
    ``PercentileMatchingCalibratedNeuronSimulator``.

    Raises:
        Invalid: nothing to calibrate on, not equally many, or a number that is not finite.
    """
    _same_length(uncalibrated, true)
    check_finite((*uncalibrated, *true, *values))
    if not uncalibrated:
        raise Invalid("Nothing to calibrate on.", hint="Give calibration records.")
    mapped = np.interp(
        np.array(values, dtype=np.float64),
        np.sort(np.array(uncalibrated, dtype=np.float64)),
        np.sort(np.array(true, dtype=np.float64)),
    )
    return tuple(float(value) for value in mapped)


def _same_length(one: Sequence[Number], other: Sequence[Number]) -> None:
    if len(one) != len(other):
        raise Invalid(f"{len(one)} values against {len(other)}.", hint="Give equally many.")
