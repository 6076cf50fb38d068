"""Features of a contrast as their page shows them, and the filters of its address."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from app.services.problems import FieldProblem
from app.web import tokens
from app.web.forms import asked_tags
from app.web.i18n import gettext
from core.domain.views import Vocabulary
from core.domain.views_align import ContrastQuery, ContrastRow, ContrastSort

LIMIT = 50
_BAR = 98.0  # units of the drawing on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastForm:
    """Which features are shown, as typed and as meant.

    Attributes:
        contrast_id: the contrast that the address names; None for the newest.
        sae_id: the SAE that it names; empty for the first.
    """

    typed: dict[str, str]
    contrast_id: int | None
    sae_id: str
    query: ContrastQuery
    problems: tuple[FieldProblem, ...]

    @property
    def active(self) -> bool:
        """Whether any filter is set."""
        return any(self.typed[name] for name in ("words", "share", "tags"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastLine:
    """One feature: its numbers, its peak token, and the lengths of its bars."""

    value: ContrastRow
    peak_label: tokens.Html | None
    chosen_share: float
    rejected_share: float


def contrast_form(params: QueryParams) -> ContrastForm:
    """The filters of an address; unknown words count as not given."""
    sort = params.get("sort", "")
    direction = params.get("dir", "")
    typed = {
        "sort": sort if sort in set(ContrastSort) else ContrastSort.ABS_EFFECT.value,
        "dir": direction if direction in {"asc", "desc"} else "desc",
        "words": params.get("words", "").strip()[:100],
        "share": params.get("share", "").strip(),
        "tags": params.get("tags", "").strip(),
        "after": params.get("after", ""),
    }
    share, problems = _percent(typed["share"])
    tags, wrong = asked_tags(typed["tags"])
    number = params.get("contrast", "")
    known = number.isascii() and number.isdigit() and len(number) < 10
    return ContrastForm(
        typed=typed,
        contrast_id=int(number) if known else None,
        sae_id=params.get("sae", ""),
        query=ContrastQuery(
            sort=ContrastSort(typed["sort"]),
            descending=typed["dir"] == "desc",
            min_share=share,
            words=typed["words"].replace("\0", "") or None,
            tags=tags,
            after=typed["after"] or None,
            limit=LIMIT,
        ),
        problems=(*problems, *wrong),
    )


def lines(rows: Sequence[ContrastRow], words: Vocabulary | None) -> tuple[ContrastLine, ...]:
    """Rows with bars against the largest mean of all of them."""
    largest = max((max(row.mean_chosen, row.mean_rejected) for row in rows), default=0.0)
    scale = _BAR / largest if largest > 0 else 0.0
    return tuple(
        ContrastLine(
            value=row,
            peak_label=None
            if words is None or row.peak_token is None or row.peak_token < 0
            else tokens.token_label(words, row.peak_token),
            chosen_share=row.mean_chosen * scale,
            rejected_share=row.mean_rejected * scale,
        )
        for row in rows
    )


def _percent(text: str) -> tuple[float | None, tuple[FieldProblem, ...]]:
    if not text:
        return None, ()
    try:
        value = float(text.rstrip("% ").replace(",", "."))
    except ValueError:
        value = -1.0
    if 0 <= value <= 100:
        return value / 100, ()
    message = gettext("Write a number from 0 to 100.")
    return None, (FieldProblem(path="share", message=message),)
