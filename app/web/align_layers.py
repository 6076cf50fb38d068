"""Layers to choose from, as their page draws them."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from app.services.align import layers as align_layers
from app.services.align.layers import LOWEST_POWER, Layer
from app.services.align.offers import OfferedSae, Offers
from app.web import i18n
from app.web.i18n import gettext
from core.db.session import Session

__all__ = ["LOWEST_POWER", "LayerRow", "rows"]

HEIGHT = 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """A small drawing of how dense features are: heights of bars, and the same in words."""

    bars: tuple[float, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One SAE of the page."""

    sae: OfferedSae
    density: Spark | None
    holdable: bool
    ticked: bool


def rows(
    session: Session, offers: Offers, *, model_id: str, ticked: Collection[str]
) -> tuple[LayerRow, ...]:
    """The SAEs of a model, by layer."""
    found = align_layers.list_layers(session, offers, model_id)
    return tuple(_row(layer, ticked=layer.sae.key in ticked) for layer in found)


def _row(layer: Layer, *, ticked: bool) -> LayerRow:
    return LayerRow(
        sae=layer.sae,
        density=None if layer.density is None else _spark(layer.density),
        holdable=layer.holdable,
        ticked=ticked,
    )


def _spark(counts: Int64[np.ndarray, " bin"]) -> Spark:
    largest = max(1, int(counts.max(initial=0)))
    edges = np.logspace(LOWEST_POWER, 0, len(counts) + 1)
    below = np.cumsum(counts)
    total = int(below[-1]) if len(below) else 0
    half = int(np.searchsorted(below, total / 2)) if total else 0
    return Spark(
        bars=tuple(max(1.0, HEIGHT * n / largest) if n else 0.0 for n in counts.tolist()),
        label=gettext("%(n)s living features, half of them below a density of %(median)s")
        % {"n": i18n.number(total), "median": i18n.percent(float(edges[half + 1]), 2)},
    )
