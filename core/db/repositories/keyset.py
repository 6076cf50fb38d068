"""Pages of features sorted by any number: where the next one begins, by value and index."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from core.db.base import Base
from core.errors import Invalid

MAX_LIMIT = 1_000
RowT = TypeVar("RowT", bound=Base)


@runtime_checkable
class PageQuery(Protocol):
    """What every list of features is asked: how many, in which direction, from where."""

    @property
    def limit(self) -> int:
        """Rows at most."""

    @property
    def descending(self) -> bool:
        """Largest first."""

    @property
    def after(self) -> str | None:
        """``next_after`` of the page before; None on the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RowT]):
    """Rows of one page; next_after is None on the last one, n_matching counts all pages."""

    rows: tuple[RowT, ...]
    next_after: str | None
    n_matching: int


def read_page(
    session: Session,
    table: type[RowT],
    *,
    condition: Sequence[ColumnElement[bool]],
    key: ColumnElement[Any],
    query: PageQuery,
) -> Page[RowT]:
    """One page of a table with a column ``index``, by the key.

    Raises:
        Invalid: the limit or the place of the page is none.
    """
    check_limit(query.limit)
    index: ColumnElement[int] = table.__table__.c["index"]
    chosen = select(table, key.label("key")).where(*condition)
    chosen = chosen.order_by(*order_by(key, index, descending=query.descending))
    if query.after is not None:
        chosen = chosen.where(beyond(query.after, key, index, descending=query.descending))
    found = session.execute(chosen.add_columns(index.label("at")).limit(query.limit + 1)).all()
    shown = found[: query.limit]
    last = shown[-1] if len(found) > query.limit else None
    counted = select(func.count()).select_from(table).where(*condition)
    return Page(
        rows=tuple(row[0] for row in shown),
        next_after=None if last is None else place_after(float(last.key), last.at),
        n_matching=session.execute(counted).scalar_one(),
    )


def check_limit(limit: int) -> None:
    """Refuse a page of no or of too many rows."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit is {limit}.", hint=f"Use 1 to {MAX_LIMIT}.")


def place_after(value: float, index: int) -> str:
    """The text by which the next page finds its place: exact value, then index.

    >>> place_after(0.1, 7)
    '0.1_7'
    """
    return f"{value!r}_{index}"


def order_by(
    key: ColumnElement[Any], index: ColumnElement[int], *, descending: bool
) -> tuple[ColumnElement[Any], ...]:
    """By the key; equals by index ascending in both directions."""
    return (key.desc() if descending else key.asc(), index.asc())


def beyond(
    after: str, key: ColumnElement[Any], index: ColumnElement[int], *, descending: bool
) -> ColumnElement[bool]:
    """The condition of coming after the last row seen.

    Raises:
        Invalid: the text names no place.
    """
    value, place = _parse(after)
    strictly = key < value if descending else key > value
    return or_(strictly, and_(key == value, index > place))


def _parse(after: str) -> tuple[float, int]:
    value, _, index = after.rpartition("_")
    try:
        number, place = float(value), int(index)
    except ValueError as error:
        raise _unreadable(after) from error
    if not math.isfinite(number) or not 0 <= place < 2**31:
        raise _unreadable(after)
    return number, place


def _unreadable(after: str) -> Invalid:
    return Invalid(
        f"{after!r} is not a place in this list.", hint="Leave it out for the first page."
    )
