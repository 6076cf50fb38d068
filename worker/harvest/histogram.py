"""Histograms of 64 equal bins over [0, 2**exponent); joining bins in pairs doubles the range."""

import torch
from jaxtyping import Int64
from torch import Tensor

from core.domain.activation import HISTOGRAM_BINS
from worker.harvest.fixed_point import Scientific

EMPTY_EXPONENT = -200  # below that of any float32
_BIN_BITS = HISTOGRAM_BINS.bit_length() - 1
_MANTISSA_BITS = 24


def range_exponent(values: Scientific) -> Int64[Tensor, " value"]:
    """Smallest exponent with ``value < 2**exponent``; -125 for values below 2**-126.

    >>> from worker.harvest.fixed_point import scientific
    >>> range_exponent(scientific(torch.tensor([0.3, 0.5, 1.0, 5.0]))).tolist()
    [-1, 0, 1, 3]
    """
    return values.exponent + _MANTISSA_BITS


def bin_of(values: Scientific, exponent: Int64[Tensor, " value"]) -> Int64[Tensor, " value"]:
    """Number of the bin that holds each value, where the range is [0, 2**exponent).

    Exact: ``floor(value * 64 / 2**exponent)`` in whole numbers.
    """
    return values.mantissa >> (exponent - _BIN_BITS - values.exponent).clamp(0, 63)


def widen(
    counts: Int64[Tensor, "feature bin"], doublings: Int64[Tensor, " feature"]
) -> Int64[Tensor, "feature bin"]:
    """The same histograms over ranges that are ``2**doublings`` times as wide."""
    changed = torch.nonzero(doublings > 0).view(-1)
    if not len(changed):
        return counts
    old = counts[changed]
    bins = torch.arange(HISTOGRAM_BINS, device=counts.device)
    target = bins >> doublings[changed].clamp(max=63)[:, None]
    result = counts.clone()
    result[changed] = torch.zeros_like(old).scatter_add_(1, target, old)
    return result


def merge_histograms(
    first: tuple[Int64[Tensor, " feature"], Int64[Tensor, "feature bin"]],
    second: tuple[Int64[Tensor, " feature"], Int64[Tensor, "feature bin"]],
) -> tuple[Int64[Tensor, " feature"], Int64[Tensor, "feature bin"]]:
    """Exponents and counts of both histograms together."""
    exponent = torch.maximum(first[0], second[0])
    counts = widen(first[1], exponent - first[0]) + widen(second[1], exponent - second[0])
    return exponent, counts
