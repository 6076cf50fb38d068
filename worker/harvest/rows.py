"""Contexts of features with all their activations, row-compressed in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt16


class Rows(NamedTuple):
    """(feature, context) rows; the ``size`` non-zeros of a row follow those of the row before.

    Attributes:
        peak: the row's largest activation.
        position: place of each non-zero in its context, BOS being 0.
    """

    feature: Int32[np.ndarray, " row"]
    context: Int32[np.ndarray, " row"]
    peak: Float32[np.ndarray, " row"]
    size: Int32[np.ndarray, " row"]
    position: UInt16[np.ndarray, " nnz"]
    value: Float32[np.ndarray, " nnz"]


def no_rows() -> Rows:
    """Not a single row."""
    return Rows(
        np.empty(0, np.int32),
        np.empty(0, np.int32),
        np.empty(0, np.float32),
        np.empty(0, np.int32),
        np.empty(0, np.uint16),
        np.empty(0, np.float32),
    )


def join_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, in that order."""
    if len(parts) == 1:
        return parts[0]
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def take_rows(rows: Rows, which: Int64[np.ndarray, " kept"] | Bool[np.ndarray, " row"]) -> Rows:
    """The rows that a mask or an array of row numbers names, in its order."""
    index = np.flatnonzero(which) if which.dtype == np.bool_ else which
    entry = ragged_index(row_starts(rows.size)[index], rows.size[index])
    return Rows(
        rows.feature[index],
        rows.context[index],
        rows.peak[index],
        rows.size[index],
        rows.position[entry],
        rows.value[entry],
    )


def row_starts(size: Int32[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """Number of the first non-zero of each row."""
    starts: Int64[np.ndarray, " row"] = np.cumsum(size, dtype=np.int64) - size
    return starts


def ragged_index(
    start: Int64[np.ndarray, " row"], size: Int32[np.ndarray, " row"]
) -> Int64[np.ndarray, " nnz"]:
    """``start[0] … start[0] + size[0] - 1, start[1] …``, without a loop.

    >>> ragged_index(np.array([5, 0]), np.array([2, 3], np.int32)).tolist()
    [5, 6, 0, 1, 2]
    """
    total = int(size.sum(dtype=np.int64))
    return np.repeat(start - row_starts(size), size) + np.arange(total, dtype=np.int64)
