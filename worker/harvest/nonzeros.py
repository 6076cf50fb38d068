"""Active (token, feature) entries of encoded tiles, grouped into (feature, context) pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor


class Nonzeros(NamedTuple):
    """Activations > 0 on scored tokens.

    Attributes:
        token: number of the token, counted over whole contexts with their padding.
    """

    feature: Int64[Tensor, " nnz"]
    token: Int64[Tensor, " nnz"]
    value: Float32[Tensor, " nnz"]


class Pairs(NamedTuple):
    """(feature, context) pairs with at least one active token, ordered by both.

    Attributes:
        context: number of the context, counted as its tokens are.
        peak: the pair's largest activation.
        size: its active tokens, which follow each other in the non-zeros.
        of_nonzero: for each non-zero, its pair.
    """

    feature: Int64[Tensor, " pair"]
    context: Int64[Tensor, " pair"]
    peak: Float32[Tensor, " pair"]
    size: Int64[Tensor, " pair"]
    of_nonzero: Int64[Tensor, " nnz"]


def find_nonzeros(
    acts: Float32[Tensor, "token d_sae"], scored: Bool[Tensor, " token"], *, first_token: int
) -> Nonzeros:
    """Entries above 0 in scored rows, ordered by token; the first row is token ``first_token``."""
    d_sae = acts.shape[1]
    flat = acts.reshape(-1)
    entry = _nonzero_entries(flat)
    value = flat[entry]
    token = torch.div(entry, d_sae, rounding_mode="floor")
    keep = scored[token] & ~(value <= 0)  # NaN stays, so that it is seen
    entry, token, value = entry[keep], token[keep], value[keep]
    return Nonzeros(entry - token * d_sae, token + first_token, value)


def _nonzero_entries(flat: Float32[Tensor, " entry"]) -> Int64[Tensor, " nnz"]:
    if flat.device.type == "cpu":  # numpy's is five times as fast there
        return torch.from_numpy(np.flatnonzero(flat.numpy() != 0))
    return torch.nonzero(flat).view(-1)


def sort_by_feature(parts: Sequence[Nonzeros]) -> Nonzeros:
    """All parts together, ordered by feature, then token; parts come in the order of tokens."""
    feature = torch.cat([part.feature for part in parts])
    token = torch.cat([part.token for part in parts])
    value = torch.cat([part.value for part in parts])
    order = torch.sort(feature, stable=True)
    return Nonzeros(order.values, token[order.indices], value[order.indices])


def pair_up(nonzeros: Nonzeros, context_size: int) -> Pairs:
    """The (feature, context) pairs of non-zeros that are ordered by feature, then token."""
    context = torch.div(nonzeros.token, context_size, rounding_mode="floor")
    feature = nonzeros.feature
    new = torch.ones(len(feature), dtype=torch.bool, device=feature.device)
    new[1:] = (feature[1:] != feature[:-1]) | (context[1:] != context[:-1])
    start = torch.nonzero(new).view(-1)
    of_nonzero = torch.cumsum(new.long(), 0) - 1
    peak = torch.zeros(len(start), dtype=torch.float32, device=feature.device)
    peak.scatter_reduce_(0, of_nonzero, nonzeros.value, "amax")
    end = torch.cat([start[1:], torch.tensor([len(feature)], device=feature.device)])
    return Pairs(feature[start], context[start], peak, (end - start)[: len(start)], of_nonzero)
