"""Features: lists in any order, whole pages, and columns for plots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.models.feature import Feature, FeatureEvidence
from core.db.models.harvest import Harvest, HarvestSae
from core.db.packing.rows import join_rows, unpack_random, unpack_rows
from core.db.packing.summary import Summary, unpack_summary
from core.db.repositories import feature_filter
from core.db.repositories.cards import AnyRow, harvest_info, select_harvests
from core.db.repositories.evidence import (
    STATS_COLUMNS,
    Part,
    find_part,
    one_of,
    random_contexts,
    read_contexts,
    stats_of,
)
from core.domain.activation import Band, ContextActivations, ContextRows, FeatureStats
from core.domain.harvest import HarvestInfo
from core.domain.ids import FeatureId
from core.domain.views import (
    FeatureCard,
    FeatureList,
    FeaturePage,
    FeatureQuery,
    FeatureSort,
    Neighbour,
    Ranks,
    TokenWeight,
)
from core.errors import NotFound


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
    condition = feature_filter.matching(part.part_id, query)
    chosen = select(*STATS_COLUMNS).where(condition).order_by(*feature_filter.order(query))
    beyond = feature_filter.beyond(query)
    if beyond is not None:
        chosen = chosen.where(beyond)
    rows = session.execute(chosen.limit(query.limit + 1)).all()
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    return FeatureList(
        cards=_cards(session, part, shown),
        next_after=_place(query, shown[-1]) if more else None,
        n_matching=_count(session, part, query),
    )


def feature_page(
    session: Session,
    *,
    feature: FeatureId,
    harvest_id: int | None = None,
    include_random: bool = False,
) -> FeaturePage:
    """Everything a feature's page shows.

    Raises:
        NotFound: no such SAE, harvest or index.
    """
    part = find_part(
        session, model_id=feature.model_id, sae_id=feature.sae_id, harvest_id=harvest_id
    )
    row = _evidence(session, part, feature.index)
    summary = unpack_summary(row.summary)
    stats = stats_of(row)
    kept, contexts = _contexts(session, part, row, include_random=include_random)
    coactivation, cosine = _neighbours(session, part, summary)
    last = part.card.n_features - 1
    return FeaturePage(
        model_id=feature.model_id,
        sae=part.card,
        harvest=part.harvest,
        stats=stats,
        ranks=_ranks(session, part, stats),
        histogram=summary.histogram,
        promoted=_weights(summary.top_ids, summary.top_values),
        suppressed=_weights(summary.bottom_ids, summary.bottom_values),
        coactivation=coactivation,
        decoder_cosine=cosine,
        contexts=contexts,
        band_counts={band: int(np.count_nonzero(kept.band == band)) for band in Band},
        next_index=feature.index + 1 if feature.index < last else None,
        previous_index=feature.index - 1 if feature.index > 0 else None,
        other_harvests=_other_harvests(session, part),
    )


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
    condition = feature_filter.matching(part.part_id, query)
    counted = select(func.count()).select_from(Feature).where(condition)
    return session.execute(counted).scalar_one()


def _place(query: FeatureQuery, row: AnyRow) -> str:
    by_index = query.sort is FeatureSort.INDEX
    value = 0.0 if by_index else getattr(row, query.sort.value)
    return feature_filter.keyset(query, value=value, index=row.feature_index)


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


def _evidence(session: Session, part: Part, index: int) -> AnyRow:
    query = (
        select(
            *STATS_COLUMNS,
            FeatureEvidence.summary,
            FeatureEvidence.contexts,
            FeatureEvidence.random,
        )
        .join(
            FeatureEvidence,
            (FeatureEvidence.harvest_sae_id == Feature.harvest_sae_id)
            & (FeatureEvidence.index == Feature.index),
        )
        .where(Feature.harvest_sae_id == part.part_id, Feature.index == index)
    )
    row = session.execute(query).one_or_none() if 0 <= index < 2**31 else None
    if row is None:
        raise NotFound(
            f"{part.card.model_id}/{part.card.sae_id} has no feature {index}.",
            hint=f"Its features are 0 to {part.card.n_features - 1}.",
        )
    return row


def _contexts(
    session: Session, part: Part, row: AnyRow, *, include_random: bool
) -> tuple[ContextRows, tuple[ContextActivations, ...]]:
    """All rows of a feature, the random ones last, and the contexts of those asked for."""
    kept = unpack_rows(row.contexts)
    random = unpack_random(random_contexts(session, part.part_id), row.random)
    all_rows = join_rows([kept, random])
    shown = all_rows if include_random else kept
    return all_rows, read_contexts(session, part.harvest.harvest_id, [shown])[0]


def _ranks(session: Session, part: Part, stats: FeatureStats) -> Ranks:
    """Share of the living features that are exceeded: #{smaller} / #{living}."""
    columns = (Feature.density, Feature.max_activation, Feature.mean_activation)
    values = (stats.density, stats.max_activation, stats.mean_activation)
    smaller = [
        func.count().filter(column < value) for column, value in zip(columns, values, strict=True)
    ]
    query = select(*smaller).where(Feature.harvest_sae_id == part.part_id, Feature.n_active > 0)
    density, largest, mean = (
        count / max(part.n_living, 1) for count in session.execute(query).one()
    )
    return Ranks(density=density, max_activation=largest, mean_activation=mean)


def _neighbours(
    session: Session, part: Part, summary: Summary
) -> tuple[tuple[Neighbour, ...], tuple[Neighbour, ...]]:
    coactivation = summary.coactivation_index.tolist()
    cosine = summary.cosine_index.tolist()
    wanted = sorted({index for index in (*coactivation, *cosine) if index >= 0})
    query = select(*STATS_COLUMNS).where(
        Feature.harvest_sae_id == part.part_id, Feature.index == one_of(wanted)
    )
    found = {row.feature_index: row for row in session.execute(query)} if wanted else {}
    support: list[int | None] = [*summary.coactivation_support.tolist()]
    nothing: list[int | None] = [None] * len(cosine)
    lists = (
        (coactivation, summary.coactivation_value.tolist(), support),
        (cosine, summary.cosine_value.tolist(), nothing),
    )
    first, second = (
        tuple(
            Neighbour(
                index=index,
                value=value,
                support=both,
                stats=stats_of(found[index]),
                peak_token=found[index].peak_token,
            )
            for index, value, both in zip(*columns, strict=True)
            if index >= 0
        )
        for columns in lists
    )
    return first, second


def _weights(
    ids: npt.NDArray[np.int32], values: npt.NDArray[np.float32]
) -> tuple[TokenWeight, ...]:
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return tuple(TokenWeight(token_id=token, value=value) for token, value in pairs if token >= 0)


def _other_harvests(session: Session, part: Part) -> tuple[HarvestInfo, ...]:
    query = (
        select_harvests()
        .join(HarvestSae, HarvestSae.harvest_id == Harvest.id)
        .join(Sae, Sae.id == HarvestSae.sae_pk)
        .where(Sae.model_id == part.card.model_id, Sae.sae_id == part.card.sae_id)
        .where(Harvest.id != part.harvest.harvest_id)
    )
    return tuple(harvest_info(row) for row in session.execute(query))
