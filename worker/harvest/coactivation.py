"""Which features fire together: the phi coefficient over the tokens of sampled contexts."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int, Int32, Int64
from torch import Tensor

from core.domain.activation import Neighbours
from worker.harvest.rows import ragged_index
from worker.harvest.sampled_contexts import SampledActivations
from worker.harvest.topk import group_offsets, largest_columns, sort_order

MIN_SUPPORT = 3  # two features that meet on a token or two say nothing, yet may have phi = 1
_CELLS = 1 << 23  # counts held at once
_MEETINGS = 1 << 22  # (feature, feature, token) triples held at once


class Coactivation(NamedTuple):
    """Neighbours by phi, and on how many sampled tokens both fire; 0 where there is none."""

    neighbours: Neighbours
    support: Int32[np.ndarray, "feature k"]


def coactivation(
    firing: SampledActivations, *, d_sae: int, n_tokens: int, k: int, context_size: int
) -> Coactivation:
    """The ``k`` features of largest phi > 0 with each feature, exact over the sample.

    phi is Pearson's correlation of the two indicators "fires on this token". With N sampled
    scored tokens, n_f of them active, n_fg active for both:
    phi = (N n_fg - n_f n_g) / sqrt(n_f (N - n_f) n_g (N - n_g)).

    Args:
        firing: active tokens of the sampled contexts.
        d_sae: number of features.
        n_tokens: scored tokens of the sampled contexts, N.
        k: neighbours a feature.
        context_size: tokens of a context.
    """
    token = firing.draw.astype(np.int64) * context_size + firing.position
    by_feature = sort_order(firing.feature, token)
    by_token = sort_order(token)
    table = _Firing(
        feature=firing.feature[by_feature],
        token=token[by_feature],
        feature_offsets=group_offsets(firing.feature, d_sae),
        of_token=firing.feature[by_token].astype(np.int64),
        token_offsets=group_offsets(token, int(token.max()) + 1 if len(token) else 0),
    )
    block = max(1, _CELLS // d_sae)
    parts = [
        _block_neighbours(table, first, min(first + block, d_sae), n_tokens=n_tokens, k=k)
        for first in range(0, d_sae, block)
    ]
    columns, values, support = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Coactivation(Neighbours(index=columns, value=values), support)


class _Firing(NamedTuple):
    feature: Int32[np.ndarray, " nnz"]
    token: Int64[np.ndarray, " nnz"]
    feature_offsets: Int64[np.ndarray, " feature_plus_1"]
    of_token: Int64[np.ndarray, " nnz"]
    token_offsets: Int64[np.ndarray, " token_plus_1"]


def _block_neighbours(
    table: _Firing, first: int, end: int, *, n_tokens: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d_sae = len(table.feature_offsets) - 1
    together = _meetings(table, first, end)
    n_active = torch.from_numpy(np.diff(table.feature_offsets))
    values = phi(together, n_active[first:end], n_active, n_tokens)
    own = torch.arange(first, end)
    values[own - first, own] = -torch.inf
    values[(values <= 0) | (together < MIN_SUPPORT)] = -torch.inf
    columns, best = largest_columns(values, k)
    support = together.gather(1, columns.clamp(min=0)) if d_sae else columns
    support = torch.where(columns < 0, 0, support)
    return columns.int().numpy(), best.float().numpy(), support.int().numpy()


def phi(
    together: Int[Tensor, "row column"],
    n_row: Int64[Tensor, " row"],
    n_column: Int64[Tensor, " column"],
    n_tokens: int,
) -> Float64[Tensor, "row column"]:
    """Phi coefficients; 0 where a feature fires always or never.

    >>> n = torch.tensor([2])
    >>> phi(torch.tensor([[2]]), n, n, 4).item(), phi(torch.tensor([[1]]), n, n, 4).item()
    (1.0, 0.0)
    """
    row, column = n_row.double()[:, None], n_column.double()[None, :]
    spread = (row * (n_tokens - row)).sqrt() * (column * (n_tokens - column)).sqrt()
    return (n_tokens * together.double() - row * column) / spread.where(spread > 0, torch.inf)


def _meetings(table: _Firing, first: int, end: int) -> Int64[Tensor, "row column"]:
    """For features ``first:end``: tokens on which each fires together with every feature."""
    d_sae = len(table.feature_offsets) - 1
    counts = torch.zeros((end - first) * d_sae, dtype=torch.int64)
    begin, stop = int(table.feature_offsets[first]), int(table.feature_offsets[end])
    token = table.token[begin:stop]
    row = (table.feature[begin:stop].astype(np.int64) - first) * d_sae
    size = np.diff(table.token_offsets)[token].astype(np.int32)
    bounds = np.cumsum(size, dtype=np.int64)
    at = 0
    while at < len(token):
        done = bounds[at - 1] if at else 0
        to = max(at + 1, int(np.searchsorted(bounds, done + _MEETINGS, side="right")))
        part = slice(at, to)
        entry = ragged_index(table.token_offsets[token[part]], size[part])
        cell = torch.from_numpy(np.repeat(row[part], size[part]) + table.of_token[entry])
        counts.scatter_add_(0, cell, torch.ones_like(cell))
        at = to
    return counts.view(end - first, d_sae)
