"""Pages of lists that begin with the newest: each lies on one side of an id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db.repositories.cards import AnyRow
from core.domain.place import NewestPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestRows:
    """The rows of one page, the newest first, and its neighbours' places; None without one."""

    found: Sequence[AnyRow]
    previous_after: int | None
    next_before: int | None


def read_newest(
    session: Session,
    chosen: "Select[*tuple[Any, ...]]",
    key: InstrumentedAttribute[int] | ColumnElement[int],
    *,
    place: NewestPlace,
    limit: int,
) -> NewestRows:
    """One page of what a query chooses; a page newer than a row that is not full is the first.

    Args:
        session: the database.
        chosen: rows with an ``id``, in no order.
        key: the column of that id.
        place: where the page lies.
        limit: rows at most.
    """
    chosen = chosen.limit(limit + 1)
    if place.before is None and place.after is not None:
        newer = chosen.where(key > place.after).order_by(key.asc())
        found = session.execute(newer).all()[::-1]
        if len(found) > limit:
            return _rows(found[1:], newer=True, older=True)
    if place.before is not None:
        chosen = chosen.where(key < place.before)
    found = session.execute(chosen.order_by(key.desc())).all()
    return _rows(found[:limit], newer=place.before is not None, older=len(found) > limit)


def _rows(found: Sequence[AnyRow], *, newer: bool, older: bool) -> NewestRows:
    return NewestRows(
        found=found,
        previous_after=found[0].id if found and newer else None,
        next_before=found[-1].id if found and older else None,
    )
