"""The form of a label, and what tagging many features is asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import QueryParams

from app.services.labels.texts import split_tags
from app.services.problems import FieldProblem
from app.web.i18n import gettext
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, Existing, Label, LabelText


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelForm:
    """A label under way.

    Attributes:
        tags: as typed, with commas between them.
        version: of the label that it will replace.
        present: what the label has become meanwhile; None unless somebody was faster.
        suffix: keeps the harvest in addresses.
    """

    feature: FeatureId
    name: str
    note: str
    tags: str
    author: str
    version: int
    suffix: str = ""
    problems: tuple[FieldProblem, ...] = ()
    present: Label | None = None

    @property
    def action(self) -> str:
        """Where it is sent."""
        return f"/{self.feature}/label{self.suffix}"

    @property
    def back(self) -> str:
        """Where Cancel leads."""
        return f"/{self.feature}{self.suffix}"


def label_form(label: Label, *, author: str, suffix: str) -> LabelForm:
    """The form of a label as it is."""
    return LabelForm(
        feature=label.feature,
        name=label.text.name,
        note=label.text.note,
        tags=tags_text(label.text),
        author=author,
        version=label.version,
        suffix=suffix,
    )


def posted_form(feature: FeatureId, fields: Mapping[str, str], *, suffix: str) -> LabelForm:
    """The form as somebody sent it."""
    version = fields.get("version", "")
    known = version.isascii() and version.isdigit() and len(version) < 10
    return LabelForm(
        feature=feature,
        name=fields.get("name", ""),
        note=fields.get("note", ""),
        tags=fields.get("tags", ""),
        author=fields.get("author", ""),
        version=int(version) if known else 0,
        suffix=suffix,
    )


def tags_text(text: LabelText) -> str:
    """Tags as they stand in a field."""
    return ", ".join(text.tags)


def change_word(kind: ChangeKind) -> str:
    """What changed a label, in a word or two."""
    return {
        ChangeKind.EDIT: gettext("written"),
        ChangeKind.TAGGING: gettext("tagged with others"),
        ChangeKind.IMPORT: gettext("imported"),
        ChangeKind.RENAME: gettext("a tag was renamed"),
        ChangeKind.REMOVAL: gettext("a tag was deleted"),
        ChangeKind.DELETE: gettext("deleted"),
    }[kind]


def existing_word(existing: Existing) -> str:
    """What an import does with features that have another label."""
    return {
        Existing.KEEP: gettext("keep it, and list the feature in the report"),
        Existing.REPLACE: gettext("replace it; the old one stays in its history"),
    }[existing]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOrder:
    """What is asked for features of one SAE.

    Attributes:
        add, remove: tags, as typed.
        indices: features that were ticked.
        first: so many of the order of the list that the form stands below; 0 for none.
        source: that list, if it is not the SAE's own: ``contrast`` or ``drift``, and its number.
        back: the page that the form stands on.
    """

    add: tuple[str, ...]
    remove: tuple[str, ...]
    indices: tuple[int, ...]
    first: int
    source: tuple[str, int] | None
    author: str
    back: str

    @property
    def params(self) -> QueryParams:
        """What the address of that page asks for."""
        return QueryParams(parse_qsl(urlsplit(self.back).query))


def tag_order(
    posted: Sequence[tuple[str, str]], *, base: str, taking: bool, author: str
) -> TagOrder:
    """An order from a form; what names features of other SAEs is passed over.

    Args:
        posted: names and texts.
        base: address of the SAE, which ids of its features begin with.
        taking: whether the tags are to be taken.
        author: who asks, where the form does not say.
    """
    fields = dict(posted)
    named = (value for name, value in posted if name == "feature")
    ends = [value.rpartition("/") for value in named]
    indices = tuple(
        int(end)
        for before, _, end in ends
        if before in ("", base.strip("/")) and end.isascii() and end.isdigit() and len(end) < 10
    )
    tags = tuple(split_tags(fields.get("tags", "")))
    kind, _, number = fields.get("list", "").partition(":")
    known = kind in {"contrast", "drift"} and number.isdigit() and len(number) < 10
    first = fields.get("first", "").strip()
    return TagOrder(
        add=() if taking else tags,
        remove=tags if taking else (),
        indices=indices,
        first=int(first) if first.isascii() and first.isdigit() and len(first) < 6 else 0,
        source=(kind, int(number)) if known else None,
        author=fields.get("author", author),
        back=fields.get("back", base),
    )
