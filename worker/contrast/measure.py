"""Means, effect sizes and shares of every feature of one SAE over preference pairs."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from core.domain.align_results import ContrastValues
from worker.align.data.answers import owners
from worker.memory import memory_errors
from worker.sae.model import SparseAutoencoder

_CELLS = 1 << 24  # dense activations held at once
_ROUNDING = 1e-12  # a spread below this share of the mean is none


class PairContrast:
    """Takes in the answers of pairs, batch by batch; holds one number a feature for each sum.

    For pair p, m_p is the mean of a feature's activation over the rows of an answer, and
    d_p = m_p(chosen) − m_p(rejected). Over n pairs: difference = Σ d_p / n, effect size =
    difference / sqrt(Σ (d_p − difference)² / (n − 1)), which is Cohen's d of paired samples.
    """

    def __init__(self, sae: SparseAutoencoder) -> None:
        self._sae = sae
        d_sae = sae.info.d_sae
        self._n = 0
        self._chosen = np.zeros(d_sae)
        self._rejected = np.zeros(d_sae)
        self._difference = np.zeros(d_sae)
        self._square = np.zeros(d_sae)
        self._fires = np.zeros((2, d_sae), np.int64)
        self._active = np.zeros(d_sae, np.int64)
        self._n_rows = 0

    def add(self, rows: Float[Tensor, "row d_in"], sizes: Sequence[int]) -> None:
        """Take in pairs: rows of all chosen answers, then of all rejected ones."""
        means, counts = _pool(self._sae, rows, sizes)
        n = len(sizes) // 2
        chosen, rejected = means[:n], means[n:]
        self._merge(chosen - rejected)
        self._chosen += chosen.sum(axis=0)
        self._rejected += rejected.sum(axis=0)
        fires = counts > 0
        self._fires += np.stack([fires[:n].sum(axis=0), fires[n:].sum(axis=0)])
        self._active += counts.sum(axis=0)
        self._n_rows += len(rows)

    def values(self) -> ContrastValues:
        """The result after all pairs, of which there must be one at least."""
        n = self._n
        effect = np.full(len(self._square), np.nan)
        if n > 1:
            spread = np.sqrt(self._square / (n - 1))
            defined = spread > _ROUNDING * np.maximum(np.abs(self._difference), 1e-300)
            np.divide(self._difference, spread, out=effect, where=defined)
        return ContrastValues(
            mean_chosen=self._chosen / n,
            mean_rejected=self._rejected / n,
            difference=self._difference,
            effect_size=effect,
            share_chosen=self._fires[0] / n,
            share_rejected=self._fires[1] / n,
            density=self._active / max(self._n_rows, 1),
        )

    def _merge(self, differences: Float64[np.ndarray, "pair feature"]) -> None:
        """Join mean and squared deviations with those of a batch (Chan, Golub, LeVeque 1979)."""
        n = len(differences)
        mean = differences.mean(axis=0)
        square = ((differences - mean) ** 2).sum(axis=0)
        total = self._n + n
        gap = mean - self._difference
        self._difference = self._difference + gap * (n / total)
        self._square = self._square + square + gap**2 * (self._n * n / total)
        self._n = total


@torch.inference_mode()
def _pool(
    sae: SparseAutoencoder, rows: Float[Tensor, "row d_in"], sizes: Sequence[int]
) -> tuple[Float64[np.ndarray, "answer feature"], Int64[np.ndarray, "answer feature"]]:
    """Mean activation over each answer's rows, 0 without rows, and rows on which each fires."""
    owner = owners(sizes, rows.device)
    sums = torch.zeros(len(sizes), sae.info.d_sae, device=rows.device)
    counts = torch.zeros_like(sums)
    step = max(1, _CELLS // sae.info.d_sae)
    with memory_errors("encoding activations"):
        for first in range(0, len(rows), step):
            piece = slice(first, first + step)
            acts = sae.encode(rows[piece].float())
            sums.index_add_(0, owner[piece], acts)
            counts.index_add_(0, owner[piece], (acts > 0).to(counts.dtype))
    lengths = np.maximum(np.asarray(sizes, np.float64), 1.0)
    means = sums.cpu().double().numpy() / lengths[:, None]
    return means, counts.cpu().long().numpy()
