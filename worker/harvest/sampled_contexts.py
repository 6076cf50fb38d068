"""Contexts drawn uniformly from the corpus, with what every feature did on them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, UInt16

from core.domain.activation import Band, ContextRows
from worker.harvest.bands import context_rows
from worker.harvest.nonzeros import Nonzeros
from worker.harvest.rows import Rows, ragged_index
from worker.harvest.topk import sort_order


class SampledActivations(NamedTuple):
    """Non-zeros of sampled contexts.

    Attributes:
        draw: number of the context in the sample, the smallest key first.
        value: empty where only the fact of firing is kept.
    """

    feature: Int32[np.ndarray, " nnz"]
    draw: UInt16[np.ndarray, " nnz"]
    position: UInt16[np.ndarray, " nnz"]
    value: Float32[np.ndarray, " value"]


def no_activations() -> SampledActivations:
    """Not a single non-zero."""
    return SampledActivations(
        np.empty(0, np.int32),
        np.empty(0, np.uint16),
        np.empty(0, np.uint16),
        np.empty(0, np.float32),
    )


def join_activations(parts: Sequence[SampledActivations]) -> SampledActivations:
    """All non-zeros of all parts."""
    return SampledActivations(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def pick_activations(
    nonzeros: Nonzeros,
    draw_of_context: Int64[np.ndarray, " context"],
    *,
    context_size: int,
    values: bool,
) -> SampledActivations:
    """The non-zeros of drawn contexts.

    Args:
        nonzeros: those of one batch.
        draw_of_context: number in the sample of each context of the batch; -1 if not drawn.
        context_size: tokens of a context.
        values: whether the activations themselves are kept.
    """
    if not (draw_of_context >= 0).any():
        return no_activations()
    draws = torch.from_numpy(draw_of_context).to(nonzeros.feature.device)
    draw = draws[torch.div(nonzeros.token, context_size, rounding_mode="floor")]
    keep = draw >= 0
    position = nonzeros.token[keep] % context_size
    return SampledActivations(
        nonzeros.feature[keep].int().cpu().numpy(),
        draw[keep].cpu().numpy().astype(np.uint16),
        position.cpu().numpy().astype(np.uint16),
        nonzeros.value[keep].cpu().numpy() if values else np.empty(0, np.float32),
    )


def draws_of(
    sampled: Int64[np.ndarray, " sampled"], *, first_context: int, n_contexts: int
) -> Int64[np.ndarray, " context"]:
    """Number in the sample of contexts that follow each other; -1 for those not drawn.

    >>> draws_of(np.array([7, 2]), first_context=6, n_contexts=3).tolist()
    [-1, 0, -1]
    """
    draws = np.full(n_contexts, -1, np.int64)
    here = np.flatnonzero((sampled >= first_context) & (sampled < first_context + n_contexts))
    draws[sampled[here] - first_context] = here
    return draws


def random_contexts(
    activations: SampledActivations, sampled: Int64[np.ndarray, " sampled"], *, d_sae: int
) -> ContextRows:
    """Every sampled context for every feature, also those on which the feature is silent."""
    n = len(sampled)
    cell = activations.feature.astype(np.int64) * n + activations.draw
    order = sort_order(cell, activations.position.astype(np.int32))
    cell = cell[order]
    size = np.bincount(cell, minlength=d_sae * n).astype(np.int32)
    peak = np.zeros(d_sae * n, np.float32)
    np.maximum.at(peak, cell, activations.value[order])
    by_context = np.argsort(sampled)
    rank = np.argsort(-peak.reshape(d_sae, n)[:, by_context], axis=1, kind="stable")
    row = (by_context[rank] + np.arange(d_sae)[:, None] * n).reshape(-1)
    entry = order[ragged_index((np.cumsum(size, dtype=np.int64) - size)[row], size[row])]
    rows = Rows(
        feature=np.repeat(np.arange(d_sae, dtype=np.int32), n),
        context=sampled[by_context[rank]].reshape(-1).astype(np.int32),
        peak=peak[row],
        size=size[row],
        position=activations.position[entry],
        value=activations.value[entry],
    )
    return context_rows(rows, np.full(len(row), Band.RANDOM, np.int8), d_sae)
