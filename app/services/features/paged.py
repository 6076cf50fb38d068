"""All pages of a list, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from core.domain.ids import FeatureId

ROWS_A_PAGE = 500


class Page(Protocol):
    """A page that knows where the next one begins."""

    @property
    def next_after(self) -> str | None:
        """Place of the next page; None on the last."""


class HasIndex(Protocol):
    """A row of one feature."""

    @property
    def index(self) -> int:
        """Index of the feature in its SAE."""


P = TypeVar("P", bound=Page)
R_co = TypeVar("R_co", bound=HasIndex, covariant=True)


class FeaturePage(Page, Protocol[R_co]):
    """A page of features that are known under some model."""

    @property
    def features_of(self) -> str:
        """Id of that model."""

    @property
    def rows(self) -> Sequence[R_co]:
        """One a feature."""


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


def every_feature(
    first: FeaturePage[R_co], read: Callable[[str], FeaturePage[R_co]], *, sae_id: str
) -> Iterator[tuple[FeatureId, R_co]]:
    """The features of a page and of all that follow it, each with its row."""
    for page in every_page(first, read):
        for row in page.rows:
            yield FeatureId(model_id=page.features_of, sae_id=sae_id, index=row.index), row
