"""SAEs as they are chosen from: how well each reconstructs, and how dense its features are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from app.services.align.offers import OfferedSae, Offers
from core.db.repositories import sources
from core.db.session import Session

LOWEST_POWER = sources.LOWEST_POWER
_HOLDABLE = ("relu", "standard", "jumprelu", "topk", "batchtopk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One SAE to choose.

    Attributes:
        density: counts of living features by density, on a log axis from 10^LOWEST_POWER to 1;
            None where it was not harvested.
        holdable: whether a constraint can hold its features.
    """

    sae: OfferedSae
    density: Int64[np.ndarray, " bin"] | None
    holdable: bool


def list_layers(session: Session, offers: Offers, model_id: str) -> tuple[Layer, ...]:
    """The SAEs of a model, by layer."""
    found = [sae for sae in offers.saes if sae.card.model_id == model_id]
    harvests = sorted({s.card.harvest.harvest_id for s in found if s.card.harvest is not None})
    counts = sources.density_counts(session, harvests) if harvests else {}
    return tuple(
        Layer(sae=sae, density=_density(sae, counts), holdable=is_holdable(sae)) for sae in found
    )


def is_holdable(sae: OfferedSae) -> bool:
    """Whether a constraint can hold its features: a plain encoder that does not scale tokens."""
    return sae.card.architecture in _HOLDABLE and sae.normalize_activations in {"", "none"}


def _density(
    sae: OfferedSae, counts: Mapping[tuple[int, str], Int64[np.ndarray, " bin"]]
) -> Int64[np.ndarray, " bin"] | None:
    if sae.card.harvest is None:
        return None
    empty = np.zeros(sources.DENSITY_BINS, np.int64)
    return counts.get((sae.card.harvest.harvest_id, sae.sae_id), empty)
