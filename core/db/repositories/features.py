"""Features: lists in any order, and columns for plots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.models.feature import Feature, FeatureEvidence
from core.db.packing.rows import unpack_rows
from core.db.packing.summary import unpack_summary
from core.db.repositories import feature_filter
from core.db.repositories.cards import AnyRow
from core.db.repositories.evidence import (
    STATS_COLUMNS,
    Part,
    find_part,
    one_of,
    read_contexts,
    stats_of,
)
from core.db.repositories.keyset import read_rows
from core.domain.activation import ContextRows
from core.domain.views import (
    FeatureCard,
    FeatureList,
    FeatureQuery,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureColumns:
    """Statistics of all features of an SAE in one harvest, by index; see FeatureStats."""

    index: npt.NDArray[np.int32]
    density: npt.NDArray[np.float64]
    max_activation: npt.NDArray[np.float64]
    mean_activation: npt.NDArray[np.float64]


def list_features(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None = None,
    query: FeatureQuery,
) -> FeatureList:
    """One page of an SAE's features.

    Raises:
        NotFound: no such SAE or harvest.
        Invalid: the limit or the place of the page is none.
    """
    part = find_part(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    condition = feature_filter.matching(part, query)
    chosen = select(*STATS_COLUMNS).where(condition)
    rows = read_rows(session, chosen, feature_filter.order(query), query)
    return FeatureList(
        cards=_cards(session, part, rows.found),
        previous_after=rows.previous_after,
        next_after=rows.next_after,
        n_matching=_count(session, part, query),
    )


def matching_indices(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None = None,
    query: FeatureQuery,
) -> tuple[int, ...]:
    """Every feature that a list's filters leave, by index; order, place and limit do not count.

    Raises:
        NotFound: no such SAE or harvest.
    """
    part = find_part(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    index = Feature.index.label("feature_index")
    chosen = select(index).where(feature_filter.matching(part, query)).order_by(index)
    return tuple(session.execute(chosen).scalars())


def feature_stats(
    session: Session, *, model_id: str, sae_id: str, harvest_id: int | None = None
) -> FeatureColumns:
    """Statistics of all features of an SAE, for plots.

    Raises:
        NotFound: no such SAE or harvest.
    """
    part = find_part(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    columns = (Feature.density, Feature.max_activation, Feature.mean_activation)
    query = (
        select(Feature.index.label("feature_index"), *columns)
        .where(Feature.harvest_sae_id == part.part_id)
        .order_by(Feature.index)
    )
    table = np.array([tuple(row) for row in session.execute(query)], np.float64).reshape(-1, 4)
    return FeatureColumns(
        index=table[:, 0].astype(np.int32),
        density=table[:, 1],
        max_activation=table[:, 2],
        mean_activation=table[:, 3],
    )


def _count(session: Session, part: Part, query: FeatureQuery) -> int:
    """How many features match; known already where only dead or living ones are asked for."""
    if not feature_filter.narrows(query):
        n = {None: part.card.n_features, True: part.card.n_dead, False: part.n_living}
        return n[query.dead]
    condition = feature_filter.matching(part, query)
    counted = select(func.count()).select_from(Feature).where(condition)
    return session.execute(counted).scalar_one()


def _cards(session: Session, part: Part, rows: Sequence[AnyRow]) -> tuple[FeatureCard, ...]:
    """Cards of rows with STATS_COLUMNS, in their order."""
    query = (
        select(
            FeatureEvidence.index.label("feature_index"),
            FeatureEvidence.summary,
            FeatureEvidence.contexts,
        )
        .where(FeatureEvidence.harvest_sae_id == part.part_id)
        .where(FeatureEvidence.index == one_of([row.feature_index for row in rows]))
    )
    found = {row.feature_index: row for row in session.execute(query)} if rows else {}
    tops = [_first(unpack_rows(found[row.feature_index].contexts)) for row in rows]
    previews = read_contexts(session, part.harvest.harvest_id, tops)
    return tuple(
        FeatureCard(
            stats=stats_of(row),
            peak_token=row.peak_token,
            preview=preview[0] if preview else None,
            promoted=tuple(unpack_summary(found[row.feature_index].summary).top_ids.tolist()),
        )
        for row, preview in zip(rows, previews, strict=True)
    )


def _first(rows: ContextRows) -> ContextRows:
    """The top context alone."""
    n = min(len(rows.context_index), 1)
    end = int(rows.nnz_offsets[n])
    return ContextRows(
        row_offsets=np.array([0, n], np.int64),
        context_index=rows.context_index[:n],
        band=rows.band[:n],
        nnz_offsets=rows.nnz_offsets[: n + 1],
        positions=rows.positions[:end],
        values=rows.values[:end],
    )
