"""All pages of a list, one after the other."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar


class Page(Protocol):
    """A page that knows where the next one begins."""

    @property
    def next_after(self) -> str | None:
        """Place of the next page; None on the last."""


P = TypeVar("P", bound=Page)


def every_page(first: P, read: Callable[[str], P]) -> Iterator[P]:
    """A page and all that follow it.

    Args:
        first: where to begin; read before the first row is asked for, so that what is wrong with
            a request is told in its answer.
        read: the page after a place.
    """
    page = first
    yield page
    while page.next_after is not None:
        page = read(page.next_after)
        yield page
