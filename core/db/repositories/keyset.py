"""Pages of lists sorted by any number: where the next one begins, by value and index."""

import math
from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from core.errors import Invalid

MAX_LIMIT = 1_000


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
