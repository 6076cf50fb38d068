"""Which features a list holds, and in which order."""

from typing import Any

from sqlalchemy import ColumnElement, and_, func
from sqlalchemy.orm import InstrumentedAttribute

from core.db.models.feature import Feature
from core.db.repositories.evidence import Part
from core.db.repositories.explained import is_explained, said_as_asked
from core.db.repositories.harvests import fold
from core.db.repositories.keyset import Order, check_limit
from core.domain.views import FeatureQuery, FeatureSort

SORT_COLUMNS: dict[FeatureSort, InstrumentedAttribute[Any]] = {
    FeatureSort.INDEX: Feature.index,
    FeatureSort.DENSITY: Feature.density,
    FeatureSort.MAX_ACTIVATION: Feature.max_activation,
    FeatureSort.MEAN_ACTIVATION: Feature.mean_activation,
}


def matching(part: Part, query: FeatureQuery) -> ColumnElement[bool]:
    """The condition of all filters, without the keyset."""
    check_limit(query.limit)
    found = [Feature.harvest_sae_id == part.part_id]
    bounds = (
        (Feature.density, query.min_density, query.max_density),
        (Feature.max_activation, query.min_activation, query.max_activation),
    )
    for column, least, most in bounds:
        found += [column >= least] if least is not None else []
        found += [column <= most] if most is not None else []
    if query.dead is not None:
        found.append(Feature.n_active == 0 if query.dead else Feature.n_active > 0)
    if query.token:
        found.append(func.strpos(Feature.peak_text, fold(query.token)) > 0)
    model_id, sae_id = part.card.model_id, part.card.sae_id
    if query.explained:
        words = query.explained
        found.append(is_explained(model_id=model_id, sae_id=sae_id, index=_index(), words=words))
    return and_(*found, *said_as_asked(query, model_id=model_id, sae_id=sae_id, index=_index()))


def _index() -> ColumnElement[int]:
    column: ColumnElement[int] = Feature.__table__.c["index"]
    return column


def narrows(query: FeatureQuery) -> bool:
    """Whether it asks for more than dead, living or all features."""
    bounds = (query.min_density, query.max_density, query.min_activation, query.max_activation)
    said = query.token or query.explained or query.words or query.tags
    return bool(said) or query.labelled is not None or any(bound is not None for bound in bounds)


def order(query: FeatureQuery) -> Order:
    """What the list is sorted by."""
    by_index = query.sort is FeatureSort.INDEX
    key: ColumnElement[Any] | None = None if by_index else SORT_COLUMNS[query.sort].expression
    return Order(key=key, index=_index(), descending=query.descending)
