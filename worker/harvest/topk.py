"""Ranks inside groups, and the exact largest columns of every row of a matrix."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64, Integer, Shaped
from torch import Tensor


def ranks_in_groups(
    group: Integer[np.ndarray, " row"], key: Integer[np.ndarray, " row"]
) -> Int64[np.ndarray, " row"]:
    """Rank of each row in its group by ascending key, from 0; equals keep their order.

    >>> ranks_in_groups(np.array([7, 7, 7, 9]), np.array([2, 1, 1, 5])).tolist()
    [2, 0, 1, 0]
    """
    order = sort_order(group, key)
    new = np.ones(len(group), np.bool_)
    new[1:] = group[order[1:]] != group[order[:-1]]
    place = np.arange(len(group))
    ranks = np.empty(len(group), np.int64)
    ranks[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return ranks


def sort_order(*keys: Integer[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """Order by the first key, then the next ones; equals keep their order.

    As ``np.lexsort`` of the keys reversed, in a fifth of the time: torch sorts whole numbers by
    their digits.
    """
    order = torch.arange(len(keys[0]))
    for key in reversed(keys):
        column = torch.from_numpy(key)[order]
        order = order[torch.sort(column, stable=True).indices]
    result: Int64[np.ndarray, " row"] = order.numpy()
    return result


def descending(peak: Float32[np.ndarray, " row"]) -> Int32[np.ndarray, " row"]:
    """Whole numbers that put activations above 0 in descending order.

    >>> np.argsort(descending(np.array([0.5, 3.0, 1.0], np.float32))).tolist()
    [1, 2, 0]
    """
    return np.int32(0x7FFFFFFF) - peak.view(np.int32)  # floats above 0 order as their bits do


def largest_columns(
    values: Float[Tensor, "row column"], k: int
) -> tuple[Int64[Tensor, "row k"], Float[Tensor, "row k"]]:
    """Columns and values of the k largest entries of each row, largest first.

    Equal values come in the order of their columns. Entries of -inf do not count; places without
    an entry hold column -1 and value 0.
    """
    n_rows, n_columns = values.shape
    columns = torch.full((n_rows, k), -1, dtype=torch.int64, device=values.device)
    best = torch.zeros(n_rows, k, dtype=values.dtype, device=values.device)
    if not k or not n_columns:
        return columns, best
    least = values.topk(min(k, n_columns), dim=1).values[:, -1:]
    row, column = torch.nonzero((values >= least) & (values > -torch.inf), as_tuple=True)
    order = torch.sort(values[row, column], descending=True, stable=True).indices
    order = order[torch.sort(row[order], stable=True).indices]
    row, column = row[order], column[order]
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    keep = rank < k
    row, column, rank = row[keep], column[keep], rank[keep]
    columns[row, rank] = column
    best[row, rank] = values[row, column]
    return columns, best


def group_offsets(
    group: Shaped[np.ndarray, " row"], n_groups: int
) -> Int64[np.ndarray, " group_plus_1"]:
    """Where the rows of each group start, for rows ordered by group; ends with their number."""
    sizes = np.bincount(group, minlength=n_groups)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
