"""Running top contexts and firing sample of every feature, in bounded memory."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from worker.harvest.nonzeros import Nonzeros, Pairs
from worker.harvest.rows import Rows, join_rows, no_rows, take_rows
from worker.harvest.sample import pair_keys
from worker.harvest.topk import descending, ranks_in_groups, sort_order

_LARGEST_KEY = (1 << 63) - 1
_LEAST_PENDING = 1 << 16


class Limits(NamedTuple):
    """How much is kept of every feature.

    Attributes:
        n_top: contexts of highest maximum activation.
        n_sampled: firing contexts of smallest sampling key.
        seed: seed of the sampling keys.
    """

    n_top: int
    n_sampled: int
    seed: int


def row_keys(rows: Rows, seed: int) -> Int64[np.ndarray, " row"]:
    """Sampling key of each row."""
    feature = torch.from_numpy(rows.feature.astype(np.int64))
    context = torch.from_numpy(rows.context.astype(np.int64))
    keys: Int64[np.ndarray, " row"] = pair_keys(seed, feature, context).numpy()
    return keys


class Candidates:
    """The rows that are among the best of what was seen so far, and those not yet looked at.

    A row is kept if it is one of its feature's ``n_top`` highest, or of its ``n_sampled`` smallest
    keys; equals are decided by the smaller context. New rows wait until there are as many as kept
    ones, so that looking through them costs a constant share; what is kept never depends on that.
    Contexts come in ascending order, except in states that are merged.
    """

    def __init__(self, *, d_sae: int, limits: Limits, device: torch.device) -> None:
        self._d_sae = d_sae
        self._limits = limits
        self._kept = no_rows()
        self._pending: list[Rows] = []
        self._n_pending = 0
        self._least_peak = torch.zeros(d_sae, dtype=torch.float32, device=device)
        self._largest_key = torch.full((d_sae,), _LARGEST_KEY, dtype=torch.int64, device=device)

    def wanted(self, pairs: Pairs, *, first_context: int) -> Bool[Tensor, " pair"]:
        """Which pairs may still be kept; a pair that is refused never would be."""
        keys = pair_keys(self._limits.seed, pairs.feature, pairs.context + first_context)
        return (pairs.peak >= self._least_peak[pairs.feature]) | (
            keys <= self._largest_key[pairs.feature]
        )

    def add(self, rows: Rows) -> None:
        """Take rows in, each (feature, context) once."""
        self._pending.append(rows)
        self._n_pending += len(rows.feature)
        if self._n_pending >= max(len(self._kept.feature), _LEAST_PENDING):
            self._sift()

    def rows(self) -> Rows:
        """The rows kept, ordered by feature, then context."""
        self._sift()
        return self._kept

    def _sift(self) -> None:
        if not self._pending:
            return
        rows = join_rows([self._kept, *self._pending])
        self._pending, self._n_pending = [], 0
        order = sort_order(rows.feature, rows.context)
        rows_feature, peak = rows.feature[order], rows.peak[order]
        keys = row_keys(rows, self._limits.seed)[order]
        by_peak = ranks_in_groups(rows_feature, descending(peak))
        by_key = ranks_in_groups(rows_feature, keys)
        self._raise_bars(rows_feature, by_peak, by_key, peak=peak, keys=keys)
        keep = (by_peak < self._limits.n_top) | (by_key < self._limits.n_sampled)
        self._kept = take_rows(rows, order[keep])

    def _raise_bars(
        self,
        feature: np.ndarray,
        by_peak: np.ndarray,
        by_key: np.ndarray,
        *,
        peak: np.ndarray,
        keys: np.ndarray,
    ) -> None:
        last = np.flatnonzero(by_peak == self._limits.n_top - 1)
        self._least_peak[_on(feature[last], self._least_peak)] = _on(peak[last], self._least_peak)
        last = np.flatnonzero(by_key == self._limits.n_sampled - 1)
        self._largest_key[_on(feature[last], self._largest_key)] = _on(
            keys[last], self._largest_key
        )


def rows_of(
    nonzeros: Nonzeros,
    pairs: Pairs,
    wanted: Bool[Tensor, " pair"],
    *,
    first_context: int,
    context_size: int,
) -> Rows:
    """The wanted pairs with all their activations, off the device."""
    entry = wanted[pairs.of_nonzero]
    position = nonzeros.token[entry] % context_size
    return Rows(
        feature=_off(pairs.feature[wanted].int()),
        context=_off((pairs.context[wanted] + first_context).int()),
        peak=_off(pairs.peak[wanted]),
        size=_off(pairs.size[wanted].int()),
        position=_off(position.int()).astype(np.uint16),
        value=_off(nonzeros.value[entry]),
    )


def _off(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _on(array: np.ndarray, like: Tensor) -> Tensor:
    dtype = torch.int64 if array.dtype == np.int32 else like.dtype
    return torch.from_numpy(array).to(device=like.device, dtype=dtype)
