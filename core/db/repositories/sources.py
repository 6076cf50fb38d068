"""Where stored models and SAEs come from, and how dense the features of each SAE are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from sqlalchemy import BigInteger, Float, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from core.db.models.catalog import Model, Sae
from core.db.models.feature import Feature
from core.db.models.harvest import HarvestSae
from core.domain.model import ModelSource
from core.domain.sae import SaeSource

DENSITY_BINS = 24  # quarters of a power of ten from 1e-6 to 1
LOWEST_POWER = -6


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model that was loaded before: where from, and its sizes."""

    model_id: str
    source: ModelSource
    n_layers: int
    d_model: int
    vocab_size: int
    context_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSae:
    """An SAE that was loaded before: where from, and how it scales its input."""

    model_id: str
    sae_id: str
    source: SaeSource
    normalize_activations: str


def stored_models(session: Session) -> tuple[StoredModel, ...]:
    """Every model in its newest revision, by id."""
    query = (
        select(
            *(Model.model_id, Model.source, Model.n_layers, Model.d_model),
            *(Model.vocab_size, Model.context_limit),
        )
        .ext(distinct_on(Model.model_id))
        .order_by(Model.model_id, Model.id.desc())
    )
    return tuple(
        StoredModel(
            model_id=row.model_id,
            source=ModelSource.model_validate(row.source),
            n_layers=row.n_layers,
            d_model=row.d_model,
            vocab_size=row.vocab_size,
            context_limit=row.context_limit,
        )
        for row in session.execute(query)
    )


def stored_saes(session: Session) -> tuple[StoredSae, ...]:
    """Every SAE in its newest revision, by model and id."""
    query = (
        select(Sae.model_id, Sae.sae_id, Sae.source, Sae.normalize_activations)
        .ext(distinct_on(Sae.model_id, Sae.sae_id))
        .order_by(Sae.model_id, Sae.sae_id, Sae.id.desc())
    )
    return tuple(
        StoredSae(
            model_id=row.model_id,
            sae_id=row.sae_id,
            source=SaeSource.model_validate(row.source),
            normalize_activations=row.normalize_activations,
        )
        for row in session.execute(query)
    )


def density_counts(
    session: Session, harvest_ids: Sequence[int]
) -> dict[tuple[int, str], Int64[np.ndarray, " bin"]]:
    """Living features of each SAE of some harvests by density, on a log axis.

    Returns:
        By harvest and SAE id: counts of DENSITY_BINS bins from 10^LOWEST_POWER to 1; what lies
        below counts in the first.
    """
    place = func.floor((func.log(Feature.density) - LOWEST_POWER) * DENSITY_BINS / -LOWEST_POWER)
    held = func.least(func.greatest(place, cast(0, Float)), cast(DENSITY_BINS - 1, Float))
    place_column = cast(held, BigInteger).label("place")
    query = (
        select(HarvestSae.harvest_id, Sae.sae_id, place_column, func.count().label("n"))
        .join(HarvestSae, HarvestSae.id == Feature.harvest_sae_id)
        .join(Sae, Sae.id == HarvestSae.sae_pk)
        .where(HarvestSae.harvest_id.in_(harvest_ids), Feature.density > 0)
        .group_by(HarvestSae.harvest_id, Sae.sae_id, place_column)
    )
    found: dict[tuple[int, str], Int64[np.ndarray, " bin"]] = {}
    for row in session.execute(query):
        counts = found.setdefault((row.harvest_id, row.sae_id), np.zeros(DENSITY_BINS, np.int64))
        counts[row.place] = row.n
    return found
