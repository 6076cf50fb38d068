"""Labels of features: the name that people give one, a note, and tags; and how they change.

A label belongs to model, SAE and index, whatever was harvested. A tag is also a list: the features
that bear it, over all SAEs.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from core.domain.ids import FeatureId


class ChangeKind(IntEnum):
    """What changed a label; the numbers are stored."""

    EDIT = 1  # a person, on this feature
    TAGGING = 2  # many features were tagged at once
    IMPORT = 3  # a file
    RENAME = 4  # a tag has another name now, or became part of another
    REMOVAL = 5  # a tag was deleted
    DELETE = 6  # the label was deleted


class Existing(StrEnum):
    """What an import does with a feature that has another label already."""

    KEEP = "keep"  # leaves it and says so
    REPLACE = "replace"  # puts the file's in its place; the history has the old one


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """What a label says.

    Attributes:
        name: one line, at most 120 characters; empty where there are only tags.
        note: plain text of any number of lines; may be empty.
        tags: each once, sorted.
    """

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.name or self.note or self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The label of a feature at present.

    Attributes:
        author: who changed it last; empty for one that nobody wrote yet.
        version: counts its changes; 0 before the first.
        changed_at: when; None before the first change.
    """

    feature: FeatureId
    text: LabelText
    author: str
    version: int
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChange:
    """A label as one change left it."""

    text: LabelText
    author: str
    version: int
    kind: ChangeKind
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPlace:
    """How many features of one SAE bear a tag."""

    model_id: str
    sae_id: str
    n_features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCard:
    """A tag with its features counted; places by model and SAE, none of them empty."""

    name: str
    places: tuple[TagPlace, ...]

    @property
    def n_features(self) -> int:
        """Features that bear it, over all SAEs."""
        return sum(place.n_features for place in self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRecord:
    """One label of a file: what it says, who wrote it, and when if known."""

    feature: FeatureId
    text: LabelText
    author: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelQuery:
    """Which labels, in the order of model, SAE and index, from where.

    Attributes:
        tag: only features that bear it.
        after: feature id of the last one seen; None from the first.
    """

    model_id: str | None = None
    sae_id: str | None = None
    tag: str | None = None
    after: FeatureId | None = None
    limit: int = 500
