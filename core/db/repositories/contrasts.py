"""Contrasts: published whole, listed, and their features in any order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue
from sqlalchemy import ColumnElement, func, insert, select, text
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from core.db.base import plain_table
from core.db.copy import copy_rows
from core.db.models.alignment import Contrast, ContrastFeature, ContrastPart
from core.db.repositories import keyset
from core.db.repositories.explained import known_of, said_as_asked
from core.db.repositories.homes import home_of
from core.domain.align_results import ContrastSaeResult
from core.domain.views_align import (
    ContrastCard,
    ContrastList,
    ContrastQuery,
    ContrastRow,
    ContrastSae,
    ContrastSort,
)
from core.errors import NotFound

_ROW = ContrastFeature
_VALUES = (
    *("mean_chosen", "mean_rejected", "difference", "effect_size"),
    *("share_chosen", "share_rejected", "density"),
)


def publish(
    session: Session,
    *,
    job_id: int | None,
    identity: str,
    model_id: str,
    model_revision: str,
    preference_name: str,
    preference_hash: str,
    n_pairs: int,
    n_tokens_chosen: int,
    n_tokens_rejected: int,
    spec: dict[str, JsonValue],
    saes: Sequence[ContrastSaeResult],
) -> int:
    """Store a finished contrast and return its id; all of it or nothing, in this transaction."""
    row = insert(Contrast).values(
        job_id=job_id,
        identity=identity,
        model_id=model_id,
        model_revision=model_revision,
        preference_name=preference_name,
        preference_hash=preference_hash,
        n_pairs=n_pairs,
        n_tokens_chosen=n_tokens_chosen,
        n_tokens_rejected=n_tokens_rejected,
        spec=spec,
    )
    contrast_id = session.execute(row.returning(Contrast.id)).scalar_one()
    for sae in saes:
        _publish_sae(session, contrast_id, sae)
    session.execute(text("ANALYZE contrast_sae, contrast_feature"))
    return contrast_id


def find_by_identity(session: Session, identity: str) -> int | None:
    """The contrast with exactly this result, if there is one."""
    query = select(Contrast.id).where(Contrast.identity == identity)
    return session.execute(query).scalar_one_or_none()


def list_contrasts(
    session: Session, *, preference_hash: str | None = None, model_id: str | None = None
) -> tuple[ContrastCard, ...]:
    """Contrasts, the newest first; those of one set or of one model where asked for."""
    query = select(Contrast).order_by(Contrast.id.desc())
    if preference_hash is not None:
        query = query.where(Contrast.preference_hash == preference_hash)
    if model_id is not None:
        query = query.where(Contrast.model_id == model_id)
    return _cards(session, session.execute(query).scalars().all())


def get_contrast(session: Session, contrast_id: int) -> ContrastCard:
    """One contrast.

    Raises:
        NotFound: no such contrast.
    """
    row = session.get(Contrast, contrast_id) if 0 < contrast_id < 2**31 else None
    if row is None:
        raise NotFound(f"There is no contrast {contrast_id}.", hint="It may have been deleted.")
    return _cards(session, [row])[0]


def delete(session: Session, contrast_id: int) -> None:
    """Remove a contrast with its features.

    Raises:
        NotFound: no such contrast.
    """
    get_contrast(session, contrast_id)
    session.execute(delete_rows(Contrast).where(Contrast.id == contrast_id))


def list_rows(
    session: Session, contrast_id: int, *, sae_id: str, query: ContrastQuery
) -> ContrastList:
    """One page of the features of one SAE of a contrast.

    A feature without an effect size sorts as if it were 0.

    Raises:
        NotFound: no such contrast, or the SAE is not in it.
        Invalid: the limit or the place of the page is none.
    """
    part, home = _part(session, contrast_id, sae_id)
    page = keyset.read_page(
        session,
        _ROW,
        condition=_matching(part, home, query),
        key=_sort_key(query.sort),
        query=query,
    )
    return ContrastList(
        features_of=home,
        rows=_rows(session, part, home, page.rows),
        previous_after=page.previous_after,
        next_after=page.next_after,
        n_matching=page.n_matching,
    )


def _publish_sae(session: Session, contrast_id: int, sae: ContrastSaeResult) -> None:
    values = sae.values
    active = np.flatnonzero(values.active)
    row = insert(ContrastPart).values(
        contrast_id=contrast_id,
        sae_id=sae.sae_id,
        revision=sae.revision,
        hook_name=sae.hook_name,
        layer=sae.layer,
        d_sae=len(values.density),
        n_active=len(active),
    )
    part_id = session.execute(row.returning(ContrastPart.id)).scalar_one()
    columns = [getattr(values, name)[active].tolist() for name in _VALUES]
    place = _VALUES.index("effect_size")
    columns[place] = [None if value != value else value for value in columns[place]]
    rows = zip([part_id] * len(active), active.tolist(), *columns, strict=True)
    names = ("contrast_sae_id", "index", *_VALUES)
    copy_rows(session, plain_table(ContrastFeature), columns=names, rows=rows)


def _part(session: Session, contrast_id: int, sae_id: str) -> tuple[ContrastPart, str]:
    """One SAE of a contrast, and the model under which its features are known."""
    query = (
        select(ContrastPart, Contrast.model_id)
        .join(Contrast, Contrast.id == ContrastPart.contrast_id)
        .where(ContrastPart.contrast_id == contrast_id, ContrastPart.sae_id == sae_id)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        card = get_contrast(session, contrast_id)
        known = ", ".join(sae.sae_id for sae in card.saes)
        raise NotFound(f"Contrast {contrast_id} does not hold {sae_id}.", hint=f"It holds {known}.")
    part, model_id = row
    home = home_of(session, model_id=model_id, sae_id=sae_id, revision=part.revision)
    return part, home


def _matching(part: ContrastPart, home: str, query: ContrastQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_ROW.contrast_sae_id == part.id]
    if query.min_density is not None:
        found.append(_ROW.density >= query.min_density)
    if query.max_density is not None:
        found.append(_ROW.density <= query.max_density)
    if query.min_share is not None:
        found.append(func.greatest(_ROW.share_chosen, _ROW.share_rejected) >= query.min_share)
    asked = said_as_asked(
        query,
        model_id=home,
        sae_id=part.sae_id,
        index=_index(),
        explained=query.explained,
    )
    return [*found, *asked]


def _sort_key(sort: ContrastSort) -> ColumnElement[Any]:
    effect = func.coalesce(_ROW.effect_size, 0.0)
    match sort:
        case ContrastSort.EFFECT_SIZE:
            return effect
        case ContrastSort.ABS_EFFECT:
            return func.abs(effect)
        case ContrastSort.ABS_DIFFERENCE:
            return func.abs(_ROW.difference)
        case _:
            column: ColumnElement[Any] = _ROW.__table__.c[sort.value]
            return column


def _index() -> ColumnElement[int]:
    column: ColumnElement[int] = _ROW.__table__.c["index"]
    return column


def _rows(
    session: Session, part: ContrastPart, home: str, rows: Sequence[ContrastFeature]
) -> tuple[ContrastRow, ...]:
    known = known_of(
        session,
        model_id=home,
        sae_id=part.sae_id,
        revision=part.revision,
        indices=[row.index for row in rows],
    )
    return tuple(
        ContrastRow(
            index=row.index,
            **{name: getattr(row, name) for name in _VALUES},
            corpus_density=known[row.index].density,
            peak_token=known[row.index].peak_token,
            explanation=known[row.index].explanation,
            label=known[row.index].label,
            tags=known[row.index].tags,
        )
        for row in rows
    )


def _cards(session: Session, rows: Sequence[Contrast]) -> tuple[ContrastCard, ...]:
    ids = [row.id for row in rows]
    query = select(ContrastPart).where(ContrastPart.contrast_id.in_(ids))
    parts: dict[int, list[ContrastSae]] = {}
    for part in session.execute(query.order_by(ContrastPart.layer, ContrastPart.id)).scalars():
        parts.setdefault(part.contrast_id, []).append(
            ContrastSae(
                sae_id=part.sae_id,
                hook_name=part.hook_name,
                layer=part.layer,
                d_sae=part.d_sae,
                revision=part.revision,
                n_active=part.n_active,
            )
        )
    return tuple(
        ContrastCard(
            contrast_id=row.id,
            job_id=row.job_id,
            model_id=row.model_id,
            model_revision=row.model_revision,
            preference_name=row.preference_name,
            preference_hash=row.preference_hash,
            n_pairs=row.n_pairs,
            n_tokens_chosen=row.n_tokens_chosen,
            n_tokens_rejected=row.n_tokens_rejected,
            saes=tuple(parts.get(row.id, [])),
            finished_at=row.finished_at,
        )
        for row in rows
    )
