"""Counts and sums of every feature, which merge exactly."""

from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from core.domain.activation import HISTOGRAM_BINS
from worker.harvest.fixed_point import scientific, to_limbs
from worker.harvest.histogram import EMPTY_EXPONENT, bin_of, merge_histograms, range_exponent
from worker.harvest.nonzeros import Nonzeros, Pairs


class Counters(NamedTuple):
    """What was counted of every feature on a stretch of the corpus.

    Attributes:
        n_active: scored tokens with activation > 0.
        n_contexts: contexts with such a token.
        sum_high, sum_low: limbs of the sum of activations, see ``fixed_point``.
        exponent: range of the histogram; EMPTY_EXPONENT where nothing fired.
    """

    n_active: Int64[Tensor, " feature"]
    n_contexts: Int64[Tensor, " feature"]
    sum_high: Int64[Tensor, " feature"]
    sum_low: Int64[Tensor, " feature"]
    exponent: Int64[Tensor, " feature"]
    histogram: Int64[Tensor, "feature bin"]


def no_counts(d_sae: int, device: torch.device) -> Counters:
    """Counters of an empty stretch."""
    zeros = torch.zeros(d_sae, dtype=torch.int64, device=device)
    histogram = torch.zeros(d_sae, HISTOGRAM_BINS, dtype=torch.int64, device=device)
    return Counters(zeros, zeros, zeros, zeros, torch.full_like(zeros, EMPTY_EXPONENT), histogram)


def count(nonzeros: Nonzeros, pairs: Pairs, d_sae: int) -> Counters:
    """Counters of one batch."""
    empty = no_counts(d_sae, nonzeros.feature.device)
    feature = nonzeros.feature
    values = scientific(nonzeros.value)
    limbs = to_limbs(values)
    reach = range_exponent(values)
    exponent = empty.exponent.scatter_reduce(0, feature, reach, "amax")
    cell = feature * HISTOGRAM_BINS + bin_of(values, exponent[feature])
    ones = torch.ones_like(feature)
    return Counters(
        n_active=empty.n_active.scatter_add(0, feature, ones),
        n_contexts=empty.n_contexts.scatter_add(0, pairs.feature, torch.ones_like(pairs.feature)),
        sum_high=empty.sum_high.scatter_add(0, feature, limbs.high),
        sum_low=empty.sum_low.scatter_add(0, feature, limbs.low),
        exponent=exponent,
        histogram=empty.histogram.view(-1).scatter_add_(0, cell, ones).view(d_sae, -1),
    )


def merge_counters(first: Counters, second: Counters) -> Counters:
    """Counters of both stretches together."""
    exponent, histogram = merge_histograms(
        (first.exponent, first.histogram), (second.exponent, second.histogram)
    )
    return Counters(
        n_active=first.n_active + second.n_active,
        n_contexts=first.n_contexts + second.n_contexts,
        sum_high=first.sum_high + second.sum_high,
        sum_low=first.sum_low + second.sum_low,
        exponent=exponent,
        histogram=histogram,
    )
