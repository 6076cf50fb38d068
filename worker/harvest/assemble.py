"""States as the values that are published: one SAE's harvest at a time."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, Int64

from core.domain.activation import ContextRows, SaeHarvest, StoredContexts
from core.domain.harvest import HarvestSpec
from worker.harvest.bands import kept_contexts
from worker.harvest.corpus_store import CorpusStore
from worker.harvest.fixed_point import from_limbs
from worker.harvest.one_pass import draws_for, limits_of
from worker.harvest.relations import Relations
from worker.harvest.rows import ragged_index, row_starts
from worker.harvest.sampled_contexts import random_contexts
from worker.harvest.state import SaeState
from worker.harvest.topk import descending, sort_order


def choose_contexts(spec: HarvestSpec, state: SaeState) -> ContextRows:
    """TOP and quantile bands of every feature of one SAE."""
    return kept_contexts(
        state.rows,
        limits_of(spec),
        n_per_band=spec.n_per_band,
        d_sae=len(state.counters.n_active),
    )


def stored_contexts(
    spec: HarvestSpec, store: CorpusStore, kept: Sequence[ContextRows]
) -> StoredContexts:
    """Every context that a feature of any SAE keeps, and the random ones."""
    used = np.zeros(store.facts.n_contexts, np.bool_)
    used[draws_for(spec, store.facts.n_contexts).random] = True
    for rows in kept:
        used[rows.context_index] = True
    return store.stored(np.flatnonzero(used))


def sae_harvest(
    spec: HarvestSpec,
    store: CorpusStore,
    *,
    state: SaeState,
    kept: ContextRows,
    relations: Relations,
    max_norm: float | None,
) -> SaeHarvest:
    """All that one SAE's features did, ready for the database."""
    counters = state.counters
    d_sae = len(counters.n_active)
    n_active = counters.n_active.numpy()
    draws = draws_for(spec, store.facts.n_contexts)
    peak, peak_token = _peaks(kept, store)
    return SaeHarvest(
        n_scored=store.facts.n_scored - len(state.outliers),
        max_norm=max_norm,
        n_active=n_active,
        n_contexts=counters.n_contexts.numpy(),
        sum_activation=from_limbs(counters.sum_high.numpy(), counters.sum_low.numpy()),
        max_activation=peak,
        peak_token=peak_token,
        histogram_exponent=np.where(n_active > 0, counters.exponent.numpy(), 0),
        histogram=counters.histogram.numpy().astype(np.uint32),
        coactivation=relations.coactivation,
        coactivation_support=relations.support,
        decoder_cosine=relations.cosine,
        logit_effect=relations.logits,
        contexts=kept,
        random=random_contexts(state.random, draws.random, d_sae=d_sae),
    )


def _peaks(
    kept: ContextRows, store: CorpusStore
) -> tuple[Float32[np.ndarray, " feature"], Int32[np.ndarray, " feature"]]:
    """Largest activation of each feature and its token, from its first top context.

    Of equal activations the first counts, by context, then position.
    """
    offsets = kept.row_offsets
    alive = np.flatnonzero(offsets[1:] > offsets[:-1])
    first_row = offsets[alive]
    begin, end = kept.nnz_offsets[first_row], kept.nnz_offsets[first_row + 1]
    place = _first_maximum(kept.values, begin, end)
    peak = np.zeros(len(offsets) - 1, np.float32)
    token = np.full(len(offsets) - 1, -1, np.int32)
    peak[alive] = kept.values[place]
    token[alive] = store.token_at(
        kept.context_index[first_row].astype(np.int64), kept.positions[place].astype(np.int64)
    )
    return peak, token


def _first_maximum(
    values: Float32[np.ndarray, " nnz"],
    begin: Int64[np.ndarray, " row"],
    end: Int64[np.ndarray, " row"],
) -> Int64[np.ndarray, " row"]:
    """Where each stretch ``begin:end`` has its largest value, the first of equals."""
    size = (end - begin).astype(np.int32)
    entry = ragged_index(begin, size)
    order = sort_order(np.repeat(np.arange(len(begin)), size), descending(values[entry]))
    places: Int64[np.ndarray, " row"] = entry[order[row_starts(size)]]
    return places
