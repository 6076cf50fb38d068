"""Rows of features as domain values: where they are, their statistics and their contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import CollectionAggregate, Integer, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.models.feature import Feature
from core.db.models.harvest import Harvest, HarvestContext, HarvestSae
from core.db.packing.words import unpack_context
from core.db.repositories.cards import AnyRow, sae_card, select_saes
from core.db.repositories.catalog import get_sae
from core.domain.activation import Band, ContextActivations, ContextRows, FeatureStats
from core.domain.harvest import HarvestInfo
from core.domain.views import SaeCard
from core.errors import NotFound

STATS_COLUMNS = (
    Feature.index.label("feature_index"),
    Feature.peak_token,
    Feature.n_active,
    Feature.n_contexts,
    Feature.density,
    Feature.max_activation,
    Feature.mean_activation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One SAE in one harvest.

    Attributes:
        part_id: key of its features.
        card: the SAE.
        harvest: the harvest of the card.
    """

    part_id: int
    card: SaeCard
    harvest: HarvestInfo

    @property
    def n_living(self) -> int:
        """Features that fired on the corpus."""
        return self.card.n_features - self.card.n_dead


def find_part(session: Session, *, model_id: str, sae_id: str, harvest_id: int | None) -> Part:
    """An SAE in the named harvest, else in its newest.

    Raises:
        NotFound: no such SAE, no harvest of it, or the named one does not hold it.
    """
    query = (
        select_saes()
        .where(Sae.model_id == model_id, Sae.sae_id == sae_id, Harvest.id.is_not(None))
        .limit(1)
    )
    if harvest_id is not None:
        query = query.where(Harvest.id == harvest_id)
    row = session.execute(query).one_or_none()
    if row is not None:
        card = sae_card(row)
        if card.harvest is not None:
            return Part(part_id=row.part_id, card=card, harvest=card.harvest)
    get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    raise NotFound(
        f"{model_id}/{sae_id} has no finished harvest yet.", hint="Start one, or wait for its job."
    )


def one_of(numbers: Sequence[int]) -> CollectionAggregate[bool]:
    """``ANY (array)``: one statement whatever the length of the list."""
    return any_(literal(list(numbers), ARRAY(Integer)))


def stats_of(row: AnyRow) -> FeatureStats:
    """Statistics from a row with STATS_COLUMNS."""
    return FeatureStats(
        index=row.feature_index,
        density=row.density,
        n_active=row.n_active,
        n_contexts=row.n_contexts,
        max_activation=row.max_activation,
        mean_activation=row.mean_activation,
    )


def random_contexts(session: Session, part_id: int) -> bytes:
    """The packed numbers of the contexts that every feature of a part shares."""
    query = select(HarvestSae.random_contexts).where(HarvestSae.id == part_id)
    return session.execute(query).scalar_one()


def read_contexts(
    session: Session, harvest_id: int, features: Sequence[ContextRows]
) -> list[tuple[ContextActivations, ...]]:
    """The contexts of each feature with their tokens, in the order of their rows.

    All features' contexts are fetched by one query.
    """
    wanted = sorted({number for rows in features for number in rows.context_index.tolist()})
    columns = (HarvestContext.document, HarvestContext.start, HarvestContext.source_index)
    query = (
        select(HarvestContext.context_index, *columns, HarvestContext.tokens, Harvest.sources)
        .join(Harvest, Harvest.id == HarvestContext.harvest_id)
        .where(HarvestContext.harvest_id == harvest_id)
        .where(HarvestContext.context_index == one_of(wanted))
    )
    found: dict[int, AnyRow] = (
        {row.context_index: row for row in session.execute(query)} if wanted else {}
    )
    return [_join(rows, found) for rows in features]


def _join(rows: ContextRows, found: dict[int, AnyRow]) -> tuple[ContextActivations, ...]:
    bounds = rows.nnz_offsets.tolist()
    joined = []
    for i, (number, band) in enumerate(
        zip(rows.context_index.tolist(), rows.band.tolist(), strict=True)
    ):
        row = found[number]
        token_ids = unpack_context(row.tokens)
        activations = np.zeros(len(token_ids), np.float32)
        here = slice(bounds[i], bounds[i + 1])
        activations[rows.positions[here]] = rows.values[here]
        joined.append(
            ContextActivations(
                context_index=number,
                band=Band(band),
                token_ids=token_ids,
                activations=activations,
                source=row.sources[row.source_index],
                document=row.document,
                start=row.start,
            )
        )
    return tuple(joined)
