"""Base and aligned model through one SAE at the same positions of one place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from core.domain.align_results import PlaceValues
from core.domain.views_drift import PlaceFacts
from worker.align.data.answers import owners
from worker.drift.keeper import Arrays, below, within
from worker.memory import memory_errors
from worker.sae.model import SparseAutoencoder

_CELLS = 1 << 24  # dense activations held at once


class PlaceSums:
    """Takes in positions batch by batch; holds a few numbers a feature.

    Args:
        sae: through which both models are read.
        by_item: means are taken over each item (answer) first, then over items; else over all
            positions alike.
    """

    def __init__(self, sae: SparseAutoencoder, *, by_item: bool) -> None:
        self._sae = sae
        self._by_item = by_item
        self._base = _Side.empty(sae)
        self._aligned = _Side.empty(sae)
        self._change = np.zeros(sae.info.d_in)
        self._norms = np.zeros(2)
        self._n_items = self._n_rows = 0

    def add(
        self,
        base: Float[Tensor, "row d_in"],
        aligned: Float[Tensor, "row d_in"],
        sizes: Sequence[int],
    ) -> None:
        """Take in the rows of some items, one item after another, in both models."""
        base, aligned = base.float(), aligned.float()
        self._base.add(self._sae, base, sizes)
        self._aligned.add(self._sae, aligned, sizes)
        change = aligned - base
        self._change += change.cpu().double().sum(dim=0).numpy()
        for place, rows in enumerate((base, change)):
            norms = torch.linalg.vector_norm(rows, dim=1)
            self._norms[place] += float(norms.cpu().double().sum())
        self._n_items += len(sizes)
        self._n_rows += len(base)

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything taken in so far."""
        return {
            "change": self._change,
            "norms": self._norms,
            "n": np.array([self._n_items, self._n_rows]),
            **within("base", self._base.state()),
            **within("aligned", self._aligned.state()),
        }

    def restore(self, state: Arrays) -> None:
        """Go on from a state, in place of what was taken in."""
        self._change, self._norms = state["change"], state["norms"]
        self._n_items, self._n_rows = (int(n) for n in state["n"])
        self._base = _Side.of(below("base", state))
        self._aligned = _Side.of(below("aligned", state))

    def values(self) -> PlaceValues:
        """The result after all positions; zeros where there was none."""
        n = max(self._n_rows, 1)
        base, aligned = self._base, self._aligned
        mean_change = self._change / n
        items = max(self._n_items, 1)
        return PlaceValues(
            base_mean=base.item_means / items if self._by_item else base.sums / n,
            aligned_mean=aligned.item_means / items if self._by_item else aligned.sums / n,
            base_density=base.counts / n,
            aligned_density=aligned.counts / n,
            cosine=_cosines(self._sae, mean_change),
            facts=PlaceFacts(
                n_items=self._n_items,
                n_tokens=self._n_rows,
                base_norm=float(self._norms[0] / n),
                change_norm=float(self._norms[1] / n),
                mean_change_norm=float(np.linalg.norm(mean_change)),
                base_explained_variance=base.explained_variance,
                aligned_explained_variance=aligned.explained_variance,
                base_l0=float(base.counts.sum() / n),
                aligned_l0=float(aligned.counts.sum() / n),
            ),
        )


@dataclass(slots=True, kw_only=True)
class _Side:
    """Sums of one model.

    Attributes:
        item_means: Σ over items of the mean activation over the item's rows.
        sums: Σ of activations over all rows.
        counts: rows on which each feature fires.
        centre, spread: mean of the residual, and Σ‖h − mean‖², joined batch by batch.
        error: Σ‖h − ĥ‖².
    """

    item_means: Float64[np.ndarray, " feature"]
    sums: Float64[np.ndarray, " feature"]
    counts: Int64[np.ndarray, " feature"]
    centre: Float64[np.ndarray, " d_in"]
    spread: float = 0.0
    error: float = 0.0
    n: int = 0

    @classmethod
    def empty(cls, sae: SparseAutoencoder) -> "_Side":
        """Nothing taken in yet."""
        d_sae = sae.info.d_sae
        return cls(
            item_means=np.zeros(d_sae),
            sums=np.zeros(d_sae),
            counts=np.zeros(d_sae, np.int64),
            centre=np.zeros(sae.info.d_in),
        )

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Every sum as an array."""
        return {name: np.asarray(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def of(cls, state: Arrays) -> "_Side":
        """The sums of a state."""
        return cls(
            item_means=state["item_means"],
            sums=state["sums"],
            counts=state["counts"],
            centre=state["centre"],
            spread=float(state["spread"]),
            error=float(state["error"]),
            n=int(state["n"]),
        )

    @property
    def explained_variance(self) -> float | None:
        """1 − Σ‖h − ĥ‖² / Σ‖h − h̄‖²; None where all residuals are the same."""
        return 1.0 - self.error / self.spread if self.spread > 0 else None

    @torch.inference_mode()
    def add(
        self, sae: SparseAutoencoder, rows: Float[Tensor, "row d_in"], sizes: Sequence[int]
    ) -> None:
        """Take in the rows of some items."""
        owner = owners(sizes, rows.device)
        sums = torch.zeros(len(sizes), sae.info.d_sae, device=rows.device)
        step = max(1, _CELLS // sae.info.d_sae)
        with memory_errors("encoding activations"):
            for first in range(0, len(rows), step):
                piece = rows[first : first + step]
                acts = sae.encode(piece)
                sums.index_add_(0, owner[first : first + step], acts)
                self.counts += (acts > 0).sum(dim=0).cpu().numpy()
                self.error += float((piece - sae.decode(acts, inputs=piece)).square().sum())
                self._spread_out(piece.cpu().double().numpy())
        wide = sums.cpu().double().numpy()
        lengths = np.maximum(np.asarray(sizes, np.float64), 1.0)
        self.item_means += (wide / lengths[:, None]).sum(axis=0)
        self.sums += wide.sum(axis=0)

    def _spread_out(self, rows: Float64[np.ndarray, "row d_in"]) -> None:
        """Join mean and squared deviations with those of more rows (Chan et al. 1979)."""
        n, total = len(rows), self.n + len(rows)
        mean = rows.mean(axis=0)
        gap = mean - self.centre
        self.spread += float(((rows - mean) ** 2).sum() + (gap**2).sum() * (self.n * n / total))
        self.centre = self.centre + gap * (n / total)
        self.n = total


def _cosines(
    sae: SparseAutoencoder, change: Float64[np.ndarray, " d_in"]
) -> Float64[np.ndarray, " feature"]:
    """cos(change, W_dec[i]) of every feature; NaN where either is 0."""
    W_dec = sae.W_dec.cpu().double()
    dots = (W_dec @ torch.from_numpy(change)).numpy()
    norms = torch.linalg.vector_norm(W_dec, dim=1).numpy() * np.linalg.norm(change)
    cosines = np.full(len(dots), np.nan)
    np.divide(dots, norms, out=cosines, where=norms > 0)
    return cosines
