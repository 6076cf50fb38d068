"""Attention sinks in the residual stream: rare tokens with a huge entry along one direction.

In small Llama-like models the first tokens of a context carry a residual of a hundred times the
usual norm, always along the same direction. An SAE that reads it fires everywhere on them, and a
loss that contains it learns nothing else. The encoder is therefore made blind to the direction.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from worker.lm.outliers import is_outlier

SINK_NORM_MULTIPLE = 5.0
"""A token is a sink when its norm is above so many times the median norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkDirection:
    """Where the sinks of one hook point lie.

    Attributes:
        direction: unit vector from the ordinary tokens' mean to the sinks' mean.
        centre: coordinate of the ordinary tokens' mean along the direction.
        max_norm: tokens of a larger norm are sinks.
        share: sinks among the tokens looked at.
    """

    direction: Float[Tensor, " d_in"]
    centre: float
    max_norm: float
    share: float


def find_sinks(sample: Float[Tensor, "batch d_in"]) -> SinkDirection | None:
    """The sink direction of a sample of tokens, or none where no token is a sink."""
    norms = sample.norm(dim=-1)
    max_norm = SINK_NORM_MULTIPLE * float(norms.median())
    sinks = norms > max_norm
    if not bool(sinks.any()):
        return None
    mean = sample[~sinks].mean(0)
    offset = sample[sinks].mean(0) - mean
    direction = offset / offset.norm()
    return SinkDirection(
        direction=direction,
        centre=float(mean @ direction),
        max_norm=max_norm,
        share=float(sinks.float().mean()),
    )


def is_sink(
    sink: SinkDirection | None, rows: Float[Tensor, "batch d_in"]
) -> Bool[Tensor, " batch"]:
    """Which rows are sinks."""
    return is_outlier(rows, None if sink is None else sink.max_norm)


def flatten_sink(
    sink: SinkDirection | None, rows: Float[Tensor, "batch d_in"]
) -> Float[Tensor, "batch d_in"]:
    """Rows with the coordinate along the direction set to the ordinary tokens' mean."""
    if sink is None:
        return rows
    direction = sink.direction.to(rows.dtype)
    return rows + (sink.centre - rows @ direction)[:, None] * direction
