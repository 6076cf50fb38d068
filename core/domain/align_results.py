"""What contrast, drift and check found, as they are stored."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from core.domain.activation import ContextRows
from core.domain.views_drift import Place, PlaceFacts, Treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastValues:
    """One SAE on the answers of pairs, all features; definitions in views_align.ContrastRow.

    Attributes:
        effect_size: NaN where it is not defined.
    """

    mean_chosen: Float64[np.ndarray, " feature"]
    mean_rejected: Float64[np.ndarray, " feature"]
    difference: Float64[np.ndarray, " feature"]
    effect_size: Float64[np.ndarray, " feature"]
    share_chosen: Float64[np.ndarray, " feature"]
    share_rejected: Float64[np.ndarray, " feature"]
    density: Float64[np.ndarray, " feature"]

    @property
    def active(self) -> Bool[np.ndarray, " feature"]:
        """Features that fire on at least one response position."""
        fires: Bool[np.ndarray, " feature"] = self.density > 0
        return fires

    @property
    def finite(self) -> bool:
        """Whether every mean is a number; a model in too narrow a format may give none."""
        return bool(np.isfinite(self.mean_chosen).all() and np.isfinite(self.mean_rejected).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastSaeResult:
    """One SAE of a finished contrast."""

    sae_id: str
    revision: str
    hook_name: str
    layer: int
    values: ContrastValues


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceValues:
    """Base and aligned model at the positions of one place, all features; see PlaceDrift.

    Attributes:
        cosine: NaN where the mean residual change is 0.
    """

    base_mean: Float64[np.ndarray, " feature"]
    aligned_mean: Float64[np.ndarray, " feature"]
    base_density: Float64[np.ndarray, " feature"]
    aligned_density: Float64[np.ndarray, " feature"]
    cosine: Float64[np.ndarray, " feature"]
    facts: PlaceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedRows:
    """The aligned model on every stored context of every feature of a harvest.

    Attributes:
        contexts: the same rows in the same order as the harvest's, silent ones included.
        random: the firing ones first, by maximum activation, then the silent ones by number.
    """

    contexts: ContextRows
    random: ContextRows


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSaeResult:
    """One SAE of a finished drift.

    Attributes:
        part_id: key of the SAE in the harvest whose contexts were read; None without one.
        places: CHOSEN and REJECTED always, CORPUS with a harvest.
        treatment: of each feature, by the run's constraint.
        rows: None without a harvest.
    """

    sae_id: str
    revision: str
    hook_name: str
    layer: int
    part_id: int | None
    places: Mapping[Place, PlaceValues]
    treatment: tuple[Treatment, ...]
    rows: AlignedRows | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A harvest's SAE as a drift reads it again.

    Attributes:
        part_id: key of the SAE in the harvest.
        max_norm: tokens with a longer residual do not count; None lets all count.
        random_contexts: numbers of the contexts drawn uniformly from the corpus, ascending.
        contexts: of all features, in their order.
        random: the same for the uniform sample.
    """

    part_id: int
    model_revision: str
    sae_revision: str
    max_norm: float | None
    random_contexts: Int64[np.ndarray, " context"]
    contexts: ContextRows
    random: ContextRows
