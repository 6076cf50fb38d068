"""Pages of sorted lists: each begins or ends at a row, named by its value and index."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from core.db.base import Base
from core.db.repositories.cards import AnyRow
from core.errors import Invalid

MAX_LIMIT = 1_000
RowT = TypeVar("RowT", bound=Base)
_BEFORE = "before_"


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
        """``next_after`` or ``previous_after`` of another page; None on the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a list is sorted by: a number, equals by index ascending; key None is index alone."""

    key: ColumnElement[Any] | None
    index: ColumnElement[int]
    descending: bool

    def columns(self, *, backwards: bool = False) -> tuple[ColumnElement[Any], ...]:
        """For ORDER BY."""
        down = self.descending != backwards
        if self.key is None:
            return (self.index.desc() if down else self.index.asc(),)
        return (
            self.key.desc() if down else self.key.asc(),
            self.index.desc() if backwards else self.index.asc(),
        )

    def beyond(self, place: "Place") -> ColumnElement[bool]:
        """The condition of lying on the place's side of its row."""
        down = self.descending != place.before
        if self.key is None:
            return self.index < place.index if down else self.index > place.index
        strictly = self.key < place.value if down else self.key > place.value
        within = self.key <= place.value if down else self.key >= place.value  # an index finds it
        among_equals = self.index < place.index if place.before else self.index > place.index
        return and_(within, or_(strictly, among_equals))

    def place(self, row: AnyRow, *, before: bool = False) -> "Place":
        """Where a page begins after a row, or ends before it."""
        value = None if self.key is None else float(row.sorted_by)
        return Place(value=value, index=row.sorted_index, before=before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of a list and the side of it on which a page lies.

    >>> str(Place(value=0.1, index=7)), str(Place(value=None, index=7, before=True))
    ('0.1_7', 'before_7')
    """

    value: float | None
    index: int
    before: bool = False

    def __str__(self) -> str:
        value = "" if self.value is None else f"{self.value!r}_"
        return f"{_BEFORE if self.before else ''}{value}{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one page, and the places of its neighbours; None where there is no more."""

    found: Sequence[AnyRow]
    previous_after: str | None
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RowT]):
    """Rows of one page and the places of its neighbours; n_matching counts all pages."""

    rows: tuple[RowT, ...]
    previous_after: str | None
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
    order = Order(key=key, index=table.__table__.c["index"], descending=query.descending)
    rows = read_rows(session, select(table).where(*condition), order, query)
    counted = select(func.count()).select_from(table).where(*condition)
    return Page(
        rows=tuple(row[0] for row in rows.found),
        previous_after=rows.previous_after,
        next_after=rows.next_after,
        n_matching=session.execute(counted).scalar_one(),
    )


def read_rows(
    session: Session, chosen: "Select[*tuple[Any, ...]]", order: Order, query: PageQuery
) -> Rows:
    """One page of what a query chooses.

    A page before a row that would not be full is the first page.

    Raises:
        Invalid: the place of the page is none.
    """
    index = order.index.label("sorted_index")
    key = () if order.key is None else (order.key.label("sorted_by"),)
    chosen = chosen.add_columns(index, *key).limit(query.limit + 1)
    place = None if query.after is None else parse(query.after, by_index=order.key is None)
    if place is not None and place.before:
        before = chosen.where(order.beyond(place)).order_by(*order.columns(backwards=True))
        found = session.execute(before).all()[::-1]
        if len(found) > query.limit:
            return _rows(order, found[1:], more_before=True, more_after=True)
        place = None
    if place is not None:
        chosen = chosen.where(order.beyond(place))
    found = session.execute(chosen.order_by(*order.columns())).all()
    return _rows(
        order,
        found[: query.limit],
        more_before=place is not None,
        more_after=len(found) > query.limit,
    )


def _rows(order: Order, found: Sequence[AnyRow], *, more_before: bool, more_after: bool) -> Rows:
    first, last = (found[0], found[-1]) if found else (None, None)
    return Rows(
        found=found,
        previous_after=str(order.place(first, before=True)) if first and more_before else None,
        next_after=str(order.place(last)) if last and more_after else None,
    )


def check_limit(limit: int) -> None:
    """Refuse a page of no or of too many rows."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit is {limit}.", hint=f"Use 1 to {MAX_LIMIT}.")


def parse(text: str, *, by_index: bool) -> Place:
    """The place that a text names.

    >>> parse("before_0.1_7", by_index=False)
    Place(value=0.1, index=7, before=True)

    Raises:
        Invalid: it names no place in a list of this order.
    """
    bare = text.removeprefix(_BEFORE)
    value, _, index = bare.rpartition("_")
    try:
        number, place = (float(value) if value else None), int(index)
    except ValueError as error:
        raise _unreadable(text) from error
    if (number is None) != by_index or not 0 <= place < 2**31:
        raise _unreadable(text)
    if number is not None and not math.isfinite(number):
        raise _unreadable(text)
    return Place(value=number, index=place, before=bare != text)


def _unreadable(after: str) -> Invalid:
    return Invalid(
        f"{after!r} is not a place in this list.", hint="Leave it out for the first page."
    )
