"""Whole pages of features: one for a reader, or many in a row for a file."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.models.feature import Feature, FeatureEvidence
from core.db.models.harvest import Harvest, HarvestSae
from core.db.packing.rows import join_rows, unpack_random, unpack_rows
from core.db.packing.summary import Summary, unpack_summary
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
from core.db.repositories.features import FeatureColumns, feature_stats
from core.domain.activation import Band, ContextActivations, ContextRows, FeatureStats
from core.domain.harvest import HarvestInfo
from core.domain.ids import FeatureId
from core.domain.views import FeaturePage, Neighbour, Ranks, TokenWeight
from core.errors import NotFound


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
    rows = _evidence(session, part, [feature.index]) if 0 <= feature.index < 2**31 else ()
    if not rows:
        raise NotFound(
            f"{part.card.model_id}/{part.card.sae_id} has no feature {feature.index}.",
            hint=f"Its features are 0 to {part.card.n_features - 1}.",
        )
    ranks = [_ranks(session, part, stats_of(rows[0]))]
    return _pages(session, part, rows, ranks=ranks, include_random=include_random)[0]


def feature_pages(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None = None,
    indices: Sequence[int],
) -> tuple[FeaturePage, ...]:
    """The pages of many features, by index; what is not there is left out.

    A handful of queries whatever their number; equal to feature_page of each.

    Raises:
        NotFound: no such SAE or harvest.
    """
    part = find_part(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    rows = _evidence(session, part, [index for index in indices if 0 <= index < 2**31])
    columns = feature_stats(
        session, model_id=model_id, sae_id=sae_id, harvest_id=part.harvest.harvest_id
    )
    ranks = _all_ranks(columns, [row.feature_index for row in rows])
    return _pages(session, part, rows, ranks=ranks, include_random=False)


def _pages(
    session: Session,
    part: Part,
    rows: Sequence[AnyRow],
    *,
    ranks: Sequence[Ranks],
    include_random: bool,
) -> tuple[FeaturePage, ...]:
    summaries = [unpack_summary(row.summary) for row in rows]
    kept = [unpack_rows(row.contexts) for row in rows]
    shared = random_contexts(session, part.part_id)
    random = [unpack_random(shared, row.random) for row in rows]
    counted = [join_rows(list(pair)) for pair in zip(kept, random, strict=True)]
    shown = counted if include_random else kept
    contexts = read_contexts(session, part.harvest.harvest_id, shown)
    neighbours = _neighbour_rows(session, part, summaries)
    others = _other_harvests(session, part)
    return tuple(
        _page(
            part,
            row,
            summary,
            ranks=ranks[i],
            rows=counted[i],
            contexts=contexts[i],
            neighbours=neighbours,
            others=others,
        )
        for i, (row, summary) in enumerate(zip(rows, summaries, strict=True))
    )


def _page(
    part: Part,
    row: AnyRow,
    summary: Summary,
    *,
    ranks: Ranks,
    rows: ContextRows,
    contexts: tuple[ContextActivations, ...],
    neighbours: Mapping[int, AnyRow],
    others: tuple[HarvestInfo, ...],
) -> FeaturePage:
    coactivation, cosine = _neighbours(summary, neighbours)
    index, last = row.feature_index, part.card.n_features - 1
    return FeaturePage(
        model_id=part.card.model_id,
        sae=part.card,
        harvest=part.harvest,
        stats=stats_of(row),
        ranks=ranks,
        histogram=summary.histogram,
        promoted=_weights(summary.top_ids, summary.top_values),
        suppressed=_weights(summary.bottom_ids, summary.bottom_values),
        coactivation=coactivation,
        decoder_cosine=cosine,
        contexts=contexts,
        band_counts={band: int(np.count_nonzero(rows.band == band)) for band in Band},
        next_index=index + 1 if index < last else None,
        previous_index=index - 1 if index > 0 else None,
        other_harvests=others,
    )


def _evidence(session: Session, part: Part, indices: Sequence[int]) -> Sequence[AnyRow]:
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
        .where(Feature.harvest_sae_id == part.part_id, Feature.index == one_of(indices))
        .order_by(Feature.index)
    )
    return session.execute(query).all()


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


def _all_ranks(columns: FeatureColumns, indices: Sequence[int]) -> list[Ranks]:
    """The same for many features, from the columns of all of them, by index."""
    living = columns.density > 0
    n = max(int(np.count_nonzero(living)), 1)
    place = np.searchsorted(columns.index, np.asarray(indices, np.int32))
    shares = [
        (np.searchsorted(np.sort(column[living]), column[place]) / n).tolist()
        for column in (columns.density, columns.max_activation, columns.mean_activation)
    ]
    return [
        Ranks(density=density, max_activation=largest, mean_activation=mean)
        for density, largest, mean in zip(*shares, strict=True)
    ]


def _neighbour_rows(
    session: Session, part: Part, summaries: Sequence[Summary]
) -> dict[int, AnyRow]:
    """Statistics of every neighbour that any of the pages names, by index."""
    wanted: set[int] = set()
    for summary in summaries:
        wanted.update(summary.coactivation_index.tolist(), summary.cosine_index.tolist())
    wanted.discard(-1)
    query = select(*STATS_COLUMNS).where(
        Feature.harvest_sae_id == part.part_id, Feature.index == one_of(sorted(wanted))
    )
    return {row.feature_index: row for row in session.execute(query)} if wanted else {}


def _neighbours(
    summary: Summary, found: Mapping[int, AnyRow]
) -> tuple[tuple[Neighbour, ...], tuple[Neighbour, ...]]:
    coactivation, cosine = summary.coactivation_index.tolist(), summary.cosine_index.tolist()
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
