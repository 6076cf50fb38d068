"""What is known of features elsewhere: their explanations, and their newest harvest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.models.explanation import FeatureExplanation
from core.db.models.feature import Feature
from core.db.models.harvest import Harvest, HarvestSae
from core.db.repositories import labels
from core.db.repositories.evidence import one_of
from core.db.repositories.explanations import holds
from core.domain.explanation import ExplanationMethod
from core.domain.views import SaidCounts

_ROW = FeatureExplanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one feature; None where nothing is.

    Attributes:
        explanation: its newest current one; the lookup table's only where there is no other.
        density: over the newest harvest of these very weights.
        peak_token: token at its largest activation there.
        label: the name that people gave it.
        tags: the tags that it bears.
    """

    explanation: str | None = None
    density: float | None = None
    peak_token: int | None = None
    label: str | None = None
    tags: tuple[str, ...] = ()


NOTHING = Known()


def known_of(
    session: Session, *, model_id: str, sae_id: str, revision: str, indices: Sequence[int]
) -> dict[int, Known]:
    """What is known of some features of an SAE, by index; every index is there."""
    texts = _texts(session, model_id, sae_id, indices)
    said = labels.of_features(session, model_id=model_id, sae_id=sae_id, indices=indices)
    columns = (Feature.index.label("at"), Feature.density, Feature.n_active, Feature.peak_token)
    newest = (
        select(HarvestSae.id)
        .join(Sae, Sae.id == HarvestSae.sae_pk)
        .join(Harvest, Harvest.id == HarvestSae.harvest_id)
        .where(Sae.model_id == model_id, Sae.sae_id == sae_id, Sae.revision == revision)
        .order_by(Harvest.finished_at.desc(), Harvest.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = select(*columns).where(
        Feature.harvest_sae_id == newest, Feature.index == one_of(indices)
    )
    found = {row.at: row for row in session.execute(query)} if indices else {}
    return {
        index: Known(
            explanation=texts.get(index),
            density=found[index].density if index in found else None,
            peak_token=found[index].peak_token
            if index in found and found[index].n_active
            else None,
            label=said[index].text.name or None if index in said else None,
            tags=said[index].text.tags if index in said else (),
        )
        for index in indices
    }


def is_explained(
    *, model_id: str, sae_id: str, index: ColumnElement[int], words: str | None = None
) -> ColumnElement[bool]:
    """The condition that a feature has a current explanation, with all these words if given."""
    query = select(_ROW.id).where(
        _ROW.model_id == model_id,
        _ROW.sae_id == sae_id,
        _ROW.feature_index == index,
        _ROW.superseded_by.is_(None),
    )
    if words:
        query = query.where(holds(words))
    return exists(query)


@runtime_checkable
class SaidQuery(Protocol):
    """What lists of features are asked about what people and models said of them."""

    @property
    def words(self) -> str | None:
        """The label or a current explanation holds all these words."""

    @property
    def tags(self) -> Sequence[str]:
        """The features bear every one of these."""

    @property
    def labelled(self) -> bool | None:
        """True only features with a name, False only without, None both."""


def said_as_asked(
    query: SaidQuery,
    *,
    model_id: str,
    sae_id: str,
    index: ColumnElement[int],
    explained: bool | None = None,
) -> list[ColumnElement[bool]]:
    """Conditions of a list's filters by label and explanation; none where nothing is asked.

    Args:
        query: what is asked.
        model_id: the model.
        sae_id: the SAE.
        index: the list's column with the features.
        explained: True only features with a current explanation, False only without, None both.
    """
    found: list[ColumnElement[bool]] = []
    if query.words:
        words = query.words
        found.append(said_in_words(model_id=model_id, sae_id=sae_id, index=index, words=words))
    if explained is not None:
        has_one = is_explained(model_id=model_id, sae_id=sae_id, index=index)
        found.append(has_one if explained else ~has_one)
    return found + labels.labelled_as_asked(
        model_id=model_id, sae_id=sae_id, index=index, tags=query.tags, labelled=query.labelled
    )


def said_in_words(
    *, model_id: str, sae_id: str, index: ColumnElement[int], words: str
) -> ColumnElement[bool]:
    """The condition that a feature's label or a current explanation holds all these words."""
    return or_(
        labels.says(model_id=model_id, sae_id=sae_id, index=index, words=words),
        is_explained(model_id=model_id, sae_id=sae_id, index=index, words=words),
    )


def count_said(session: Session) -> dict[tuple[str, str], SaidCounts]:
    """How many features of each SAE are explained and named, by the ids of model and SAE."""
    is_place = (_ROW.model_id, _ROW.sae_id)
    explained = session.execute(
        select(*is_place, func.count(_ROW.feature_index.distinct()).label("n"))
        .where(_ROW.superseded_by.is_(None))
        .group_by(*is_place)
    )
    counts = {(row.model_id, row.sae_id): SaidCounts(n_explained=row.n) for row in explained}
    for place, n_named in labels.count_named(session).items():
        counts[place] = replace(counts.get(place, SaidCounts()), n_named=n_named)
    return counts


def indices_explained_with(
    session: Session, *, model_id: str, sae_id: str, words: str, limit: int
) -> tuple[int, ...]:
    """Features of an SAE whose current explanations hold these words, ascending."""
    query = (
        select(_ROW.feature_index)
        .where(_ROW.model_id == model_id, _ROW.sae_id == sae_id, _ROW.superseded_by.is_(None))
        .where(holds(words))
        .distinct()
        .order_by(_ROW.feature_index)
        .limit(limit)
    )
    return tuple(session.execute(query).scalars())


def _texts(session: Session, model_id: str, sae_id: str, indices: Sequence[int]) -> dict[int, str]:
    query = (
        select(_ROW.feature_index, _ROW.text)
        .where(
            _ROW.model_id == model_id,
            _ROW.sae_id == sae_id,
            _ROW.superseded_by.is_(None),
            _ROW.feature_index == one_of(indices),
        )
        .order_by((_ROW.method == ExplanationMethod.TOKEN_LOOKUP.value).desc(), _ROW.id)
    )
    return {row.feature_index: row.text for row in session.execute(query)} if indices else {}
