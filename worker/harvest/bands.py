"""Which of a feature's contexts are kept in the end, and in which band."""

import numpy as np
from jaxtyping import Int8, Int64

from core.domain.activation import Band, ContextRows
from worker.harvest.candidates import Limits, row_keys
from worker.harvest.rows import Rows, take_rows
from worker.harvest.topk import descending, group_offsets, ranks_in_groups, sort_order

_N_BANDS = 4
_DROPPED = -1


def kept_contexts(rows: Rows, limits: Limits, *, n_per_band: int, d_sae: int) -> ContextRows:
    """TOP and the four quantile bands of every feature.

    Args:
        rows: top contexts and firing sample of every feature, ordered by feature, then context.
        limits: what ``rows`` was chosen by.
        n_per_band: contexts kept of a quantile band, those of smallest sampling key.
        d_sae: number of features.
    """
    keys = row_keys(rows, limits.seed)
    band = _bands(rows, keys, limits)
    place = np.flatnonzero(band > Band.TOP)
    cell = rows.feature[place].astype(np.int64) * len(Band) + band[place]
    band[place[ranks_in_groups(cell, keys[place]) >= n_per_band]] = _DROPPED
    index = np.flatnonzero(band != _DROPPED)
    order = sort_order(
        rows.feature[index], band[index], descending(rows.peak[index]), rows.context[index]
    )
    index = index[order]
    return context_rows(take_rows(rows, index), band[index], d_sae)


def _bands(rows: Rows, keys: Int64[np.ndarray, " row"], limits: Limits) -> Int8[np.ndarray, " row"]:
    """Band of each row; the sample's ranks count the rows that are in TOP too."""
    band = np.full(len(rows.feature), _DROPPED, np.int8)
    sampled = np.flatnonzero(ranks_in_groups(rows.feature, keys) < limits.n_sampled)
    feature = rows.feature[sampled]
    from_top = ranks_in_groups(feature, descending(rows.peak[sampled]))
    n_sampled = np.bincount(feature, minlength=1)[feature]
    quarter = _N_BANDS * (n_sampled - 1 - from_top) // n_sampled
    band[sampled] = Band.Q0_25 - quarter
    band[ranks_in_groups(rows.feature, descending(rows.peak)) < limits.n_top] = Band.TOP
    return band


def context_rows(rows: Rows, band: Int8[np.ndarray, " row"], d_sae: int) -> ContextRows:
    """Rows that are ordered by feature, in the form in which they are stored."""
    return ContextRows(
        row_offsets=group_offsets(rows.feature, d_sae),
        context_index=rows.context,
        band=band,
        nnz_offsets=np.concatenate([[0], np.cumsum(rows.size)]).astype(np.int64),
        positions=rows.position,
        values=rows.value,
    )
