"""Ranks inside groups, and the exact largest columns of every row of a matrix."""

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, Num, Shaped
from torch import Tensor


def ranks_in_groups(
    group: Int64[np.ndarray, " row"] | Int32[np.ndarray, " row"], key: Num[np.ndarray, " row"]
) -> Int64[np.ndarray, " row"]:
    """Rank of each row in its group by ascending key, from 0; equals keep their order.

    >>> ranks_in_groups(np.array([7, 7, 7, 9]), np.array([2.0, 1.0, 1.0, 5.0])).tolist()
    [2, 0, 1, 0]
    """
    order = np.lexsort((key, group))
    new = np.ones(len(group), np.bool_)
    new[1:] = group[order[1:]] != group[order[:-1]]
    place = np.arange(len(group))
    first = np.maximum.accumulate(np.where(new, place, 0))
    ranks = np.empty(len(group), np.int64)
    ranks[order] = place - first
    return ranks


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
