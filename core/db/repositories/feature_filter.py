"""Which features a list holds, in which order, and where its next page begins."""

import math
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from core.db.models.explanation import FeatureExplanation
from core.db.models.feature import Feature
from core.db.repositories import labels
from core.db.repositories.evidence import Part
from core.db.repositories.explained import said_in_words
from core.db.repositories.explanations import holds
from core.db.repositories.harvests import fold
from core.domain.views import FeatureQuery, FeatureSort
from core.errors import Invalid

MAX_LIMIT = 1_000

SORT_COLUMNS: dict[FeatureSort, InstrumentedAttribute[Any]] = {
    FeatureSort.INDEX: Feature.index,
    FeatureSort.DENSITY: Feature.density,
    FeatureSort.MAX_ACTIVATION: Feature.max_activation,
    FeatureSort.MEAN_ACTIVATION: Feature.mean_activation,
}


def matching(part: Part, query: FeatureQuery) -> ColumnElement[bool]:
    """The condition of all filters, without the keyset."""
    if not 1 <= query.limit <= MAX_LIMIT:
        raise Invalid(f"limit is {query.limit}.", hint=f"Use 1 to {MAX_LIMIT}.")
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
    if query.explained:
        found.append(_is_explained(part, query.explained))
    return and_(*found, *_labelled(part, query))


def _labelled(part: Part, query: FeatureQuery) -> list[ColumnElement[bool]]:
    model_id, sae_id = part.card.model_id, part.card.sae_id
    asked = labels.labelled_as_asked(
        model_id=model_id,
        sae_id=sae_id,
        index=_index(),
        tags=query.tags,
        labelled=query.labelled,
    )
    if not query.words:
        return asked
    return [
        *asked,
        said_in_words(model_id=model_id, sae_id=sae_id, index=_index(), words=query.words),
    ]


def _index() -> ColumnElement[int]:
    column: ColumnElement[int] = Feature.__table__.c["index"]
    return column


def _is_explained(part: Part, words: str) -> ColumnElement[bool]:
    return (
        select(FeatureExplanation.id)
        .where(
            FeatureExplanation.model_id == part.card.model_id,
            FeatureExplanation.sae_id == part.card.sae_id,
            FeatureExplanation.feature_index == Feature.index,
            FeatureExplanation.superseded_by.is_(None),
            holds(words),
        )
        .exists()
    )


def narrows(query: FeatureQuery) -> bool:
    """Whether it asks for more than dead, living or all features."""
    bounds = (query.min_density, query.max_density, query.min_activation, query.max_activation)
    said = query.token or query.explained or query.words or query.tags
    return bool(said) or query.labelled is not None or any(bound is not None for bound in bounds)


def order(query: FeatureQuery) -> tuple[ColumnElement[Any], ...]:
    """The sort key, equals by index ascending in both directions."""
    column = SORT_COLUMNS[query.sort]
    first = column.desc() if query.descending else column.asc()
    return (first,) if query.sort is FeatureSort.INDEX else (first, Feature.index.asc())


def beyond(query: FeatureQuery) -> ColumnElement[bool] | None:
    """The condition of coming after the last row seen; None on the first page."""
    if query.after is None:
        return None
    value, index = _parse(query.after, query.sort)
    column = SORT_COLUMNS[query.sort]
    if query.sort is FeatureSort.INDEX:
        return column < index if query.descending else column > index
    strictly = column < value if query.descending else column > value
    within = column <= value if query.descending else column >= value
    return and_(within, or_(strictly, Feature.index > index))


def keyset(query: FeatureQuery, *, value: float, index: int) -> str:
    """The text by which the next page finds its place: exact value, then index.

    >>> keyset(FeatureQuery(sort=FeatureSort.DENSITY), value=0.1, index=7)
    '0.1_7'
    >>> keyset(FeatureQuery(), value=0.0, index=7)
    '7'
    """
    return str(index) if query.sort is FeatureSort.INDEX else f"{value!r}_{index}"


def _parse(after: str, sort: FeatureSort) -> tuple[float, int]:
    value, _, index = after.rpartition("_")
    if bool(value) == (sort is FeatureSort.INDEX):
        raise _unreadable(after)
    try:
        number, place = float(value or 0), int(index)
    except ValueError as error:
        raise _unreadable(after) from error
    if not math.isfinite(number) or not 0 <= place < 2**31:
        raise _unreadable(after)
    return number, place


def _unreadable(after: str) -> Invalid:
    return Invalid(
        f"{after!r} is not a place in this list.", hint="Leave it out for the first page."
    )
