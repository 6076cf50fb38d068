"""Features of drifts: lists in any order, one feature in all runs, its contexts in both models."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from core.db.models.alignment import Drift, DriftEvidence, DriftFeature, DriftPart
from core.db.models.catalog import Sae
from core.db.models.feature import FeatureEvidence
from core.db.models.harvest import HarvestSae
from core.db.packing.rows import join_rows, unpack_random, unpack_rows
from core.db.repositories import keyset
from core.db.repositories.drifts import get_drift
from core.db.repositories.evidence import random_contexts, read_contexts
from core.db.repositories.explained import NOTHING, Known, known_of, said_as_asked
from core.db.repositories.homes import home_of
from core.domain.activation import ContextActivations, ContextRows
from core.domain.ids import FeatureId
from core.domain.views_drift import (
    AlignedContexts,
    ComparedContext,
    DriftList,
    DriftQuery,
    DriftRow,
    DriftSort,
    FeatureDrift,
    Place,
    PlaceDrift,
    Treatment,
)
from core.errors import NotFound

_ROW = DriftFeature


def list_rows(session: Session, drift_id: int, *, sae_id: str, query: DriftQuery) -> DriftList:
    """One page of the features of one SAE of a drift.

    A missing corpus or cosine sorts as if it were 0.

    Raises:
        NotFound: no such drift, or the SAE is not in it.
        Invalid: the limit or the place of the page is none.
    """
    part, home = _part(session, drift_id, sae_id)
    page = keyset.read_page(
        session,
        _ROW,
        condition=_matching(part, home, query),
        key=_sort_key(query.sort),
        query=query,
    )
    return DriftList(
        features_of=home,
        rows=_rows(session, part, home, page.rows),
        previous_after=page.previous_after,
        next_after=page.next_after,
        n_matching=page.n_matching,
    )


def get_row(session: Session, drift_id: int, *, sae_id: str, index: int) -> DriftRow:
    """What became of one feature.

    Raises:
        NotFound: no such drift, or the SAE or the feature is not in it.
    """
    part, home = _part(session, drift_id, sae_id)
    row = session.get(_ROW, (part.id, index)) if 0 <= index < 2**31 else None
    if row is None:
        raise NotFound(
            f"{sae_id} has no feature {index}.", hint=f"Its features are 0 to {part.d_sae - 1}."
        )
    return _rows(session, part, home, [row])[0]


def of_feature(session: Session, feature: FeatureId) -> tuple[FeatureDrift, ...]:
    """One feature in every drift that read its SAE, the newest first."""
    query = (
        select(Drift, DriftPart, _ROW)
        .join(DriftPart, DriftPart.drift_id == Drift.id)
        .join(_ROW, _ROW.drift_sae_id == DriftPart.id)
        .where(DriftPart.sae_id == feature.sae_id, _ROW.index == feature.index, _is_of(feature))
        .order_by(Drift.id.desc())
    )
    return tuple(
        FeatureDrift(
            drift_id=drift.id,
            run_job_id=drift.run_job_id,
            model_id=drift.model_id,
            aligned_id=drift.aligned_id,
            method=drift.method,
            finished_at=drift.finished_at,
            row=_rows(session, part, feature.model_id, [row])[0],
        )
        for drift, part, row in session.execute(query)
    )


def aligned_contexts(
    session: Session,
    drift_id: int,
    *,
    sae_id: str,
    index: int,
    include_random: bool = False,
) -> AlignedContexts:
    """A feature's stored contexts in base and aligned model, in the order of its page.

    Raises:
        NotFound: no such drift or feature, or the harvest whose contexts were read is gone.
    """
    row = get_row(session, drift_id, sae_id=sae_id, index=index)
    part, _ = _part(session, drift_id, sae_id)
    found = _evidence(session, part, index)
    if found is None:
        raise NotFound(
            f"Drift {drift_id} holds no contexts of {sae_id}.",
            hint="Its SAE had no harvest, or the harvest was deleted; measure again with one.",
        )
    base, aligned = _pair_up(session, part, found, include_random=include_random)
    read = read_contexts(session, found.harvest_id, [base, aligned])
    by_number = {(context.context_index, context.band): context for context in read[1]}
    return AlignedContexts(
        drift=get_drift(session, drift_id),
        row=row,
        contexts=tuple(
            ComparedContext(base=context, aligned=_same(context, by_number)) for context in read[0]
        ),
    )


def _is_of(feature: FeatureId) -> ColumnElement[bool]:
    """The condition that a drift is of the feature's model, or reads its SAE where it has none."""
    of_model = (Sae.model_id == feature.model_id, Sae.sae_id == feature.sae_id)
    has_own = exists().where(Sae.model_id == Drift.model_id, Sae.sae_id == DriftPart.sae_id)
    same_weights = DriftPart.revision.in_(select(Sae.revision).where(*of_model))
    return or_(Drift.model_id == feature.model_id, and_(same_weights, ~has_own))


def _evidence(session: Session, part: DriftPart, index: int) -> Any:
    query = (
        select(
            FeatureEvidence.contexts.label("base_contexts"),
            FeatureEvidence.random.label("base_random"),
            DriftEvidence.contexts,
            DriftEvidence.random,
            HarvestSae.harvest_id,
        )
        .join(HarvestSae, HarvestSae.id == FeatureEvidence.harvest_sae_id)
        .join(DriftEvidence, DriftEvidence.index == FeatureEvidence.index)
        .where(FeatureEvidence.harvest_sae_id == part.part_id, FeatureEvidence.index == index)
        .where(DriftEvidence.drift_sae_id == part.id)
    )
    return session.execute(query).one_or_none()


def _pair_up(
    session: Session, part: DriftPart, found: Any, *, include_random: bool
) -> tuple[ContextRows, ContextRows]:
    base, aligned = unpack_rows(found.base_contexts), unpack_rows(found.contexts)
    if not include_random or part.part_id is None:
        return base, aligned
    shared = random_contexts(session, part.part_id)
    return (
        join_rows([base, unpack_random(shared, found.base_random)]),
        join_rows([aligned, unpack_random(part.random_contexts, found.random)]),
    )


def _same(
    context: ContextActivations, found: dict[tuple[int, Any], ContextActivations]
) -> ContextActivations:
    return found[context.context_index, context.band]


def _part(session: Session, drift_id: int, sae_id: str) -> tuple[DriftPart, str]:
    """One SAE of a drift, and the model under which its features are known."""
    query = (
        select(DriftPart, Drift.model_id)
        .join(Drift, Drift.id == DriftPart.drift_id)
        .where(DriftPart.drift_id == drift_id, DriftPart.sae_id == sae_id)
    )
    row = session.execute(query).one_or_none() if 0 < drift_id < 2**31 else None
    if row is None:
        known = ", ".join(sae.sae_id for sae in get_drift(session, drift_id).saes)
        raise NotFound(
            f"Drift {drift_id} did not read {sae_id}.",
            hint=f"It read {known}." if known else "It read no SAE.",
        )
    part, model_id = row
    home = home_of(session, model_id=model_id, sae_id=sae_id, revision=part.revision)
    return part, home


def _matching(part: DriftPart, home: str, query: DriftQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_ROW.drift_sae_id == part.id, _ROW.density > 0]
    if query.min_density is not None:
        found.append(_ROW.density >= query.min_density)
    if query.treatment is not None:
        found.append(_ROW.treatment == query.treatment.value)
    asked = said_as_asked(
        query,
        model_id=home,
        sae_id=part.sae_id,
        index=_index(),
        explained=query.explained,
    )
    return [*found, *asked]


def _sort_key(sort: DriftSort) -> ColumnElement[Any]:
    if sort is DriftSort.INDEX:
        return _index()
    if sort is DriftSort.LARGEST:
        return func.greatest(*(_change(f"{place.value}") for place in Place))
    if sort.value.startswith("cosine_"):
        return func.coalesce(_column(sort.value), 0.0)
    return _change(sort.value)


def _change(name: str) -> ColumnElement[Any]:
    """Size of the change of a mean (``chosen``) or of a density (``density_chosen``)."""
    return func.abs(func.coalesce(_column(f"aligned_{name}") - _column(f"base_{name}"), 0.0))


def _column(name: str) -> ColumnElement[Any]:
    column: ColumnElement[Any] = _ROW.__table__.c[name]
    return column


def _index() -> ColumnElement[int]:
    return _column("index")


def _rows(
    session: Session, part: DriftPart, home: str, rows: Sequence[DriftFeature]
) -> tuple[DriftRow, ...]:
    known = known_of(
        session,
        model_id=home,
        sae_id=part.sae_id,
        revision=part.revision,
        indices=[row.index for row in rows],
    )
    return tuple(_row(row, known.get(row.index, NOTHING)) for row in rows)


def _row(row: DriftFeature, known: Known) -> DriftRow:
    chosen, rejected = _place(row, Place.CHOSEN), _place(row, Place.REJECTED)
    if chosen is None or rejected is None:
        raise TypeError("answers are always read")
    return DriftRow(
        index=row.index,
        chosen=chosen,
        rejected=rejected,
        corpus=_place(row, Place.CORPUS),
        treatment=Treatment(row.treatment),
        peak_token=known.peak_token,
        explanation=known.explanation,
        label=known.label,
        tags=known.tags,
    )


def _place(row: DriftFeature, place: Place) -> PlaceDrift | None:
    name = place.value
    base_mean = getattr(row, f"base_{name}")
    if base_mean is None:
        return None
    return PlaceDrift(
        base_mean=base_mean,
        aligned_mean=getattr(row, f"aligned_{name}"),
        base_density=getattr(row, f"base_density_{name}"),
        aligned_density=getattr(row, f"aligned_density_{name}"),
        cosine=getattr(row, f"cosine_{name}"),
    )
