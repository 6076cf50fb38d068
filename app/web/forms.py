"""Addresses and forms to values: the URL is the state of every page."""

from collections.abc import Collection, Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Path
from starlette.datastructures import QueryParams

from app.services.labels.texts import checked_tags, split_tags
from app.services.problems import FieldProblem
from app.web.i18n import gettext
from core.domain.activation import Band
from core.domain.views import FeatureQuery, FeatureSort
from core.errors import Invalid

BANDS: dict[str, Band | None] = {
    "top": Band.TOP,
    "75-100": Band.Q75_100,
    "50-75": Band.Q50_75,
    "25-50": Band.Q25_50,
    "0-25": Band.Q0_25,
    "random": Band.RANDOM,
    "all": None,
}
WIDTHS: dict[str, int | None] = {"narrow": 32, "wide": 64, "whole": None}
LIST_LIMIT = 50
_KEPT = ("harvest", "run", "show", "band", "width", "scale", "view", "breaks", "nonzero")
IndexPath = Annotated[int, Path(ge=0, le=999_999_999)]


class Scale(StrEnum):
    """What the strongest colour of a heat map stands for."""

    FEATURE = "feature"  # the feature's maximum, so that rows compare
    ROW = "row"  # each row's own maximum


class View(StrEnum):
    """How contexts are shown."""

    HEAT = "heat"
    RAW = "raw"


class Shown(StrEnum):
    """Which model's activations stand on the contexts."""

    BASE = "base"
    ALIGNED = "aligned"
    CHANGE = "delta"  # aligned − base


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOptions:
    """How a feature's contexts are shown.

    Attributes:
        band: name in the address.
        width: name in the address; WIDTHS gives tokens.
        breaks: whether line breaks of the text break lines of the page.
        nonzero: raw view: only tokens above 0.
        show: which model's activations.
        run: the alignment run whose model is compared; None for the newest that was measured.
    """

    band: str = "top"
    width: str = "wide"
    scale: Scale = Scale.FEATURE
    view: View = View.HEAT
    breaks: bool = False
    nonzero: bool = False
    show: Shown = Shown.BASE
    run: int | None = None

    @property
    def wanted(self) -> Band | None:
        """The band, or None for all but RANDOM."""
        return BANDS[self.band]


def check_filters(problems: Collection[FieldProblem]) -> None:
    """Refuse a list whose filters are not what they should be.

    Raises:
        Invalid: there are problems.
    """
    if problems:
        raise Invalid("A filter is not a number.", hint="Mend the filters of the list.")


def context_options(params: QueryParams) -> ContextOptions:
    """Options from an address; unknown words count as not given."""
    return ContextOptions(
        band=_among(params.get("band"), BANDS, "top"),
        width=_among(params.get("width"), WIDTHS, "wide"),
        scale=Scale(_among(params.get("scale"), list(Scale), Scale.FEATURE)),
        view=View(_among(params.get("view"), list(View), View.HEAT)),
        breaks=params.get("breaks") == "1",
        nonzero=params.get("nonzero") == "1",
        show=Shown(_among(params.get("show"), list(Shown), Shown.BASE)),
        run=_number_of(params.get("run", "")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListForm:
    """The filters of a feature list as typed, what they mean, and what is wrong with them.

    Attributes:
        typed: the text of each field by its name in the address.
    """

    typed: dict[str, str]
    query: FeatureQuery
    problems: tuple[FieldProblem, ...]

    @property
    def active(self) -> bool:
        """Whether any filter is set."""
        return any(self.typed[name] for name in _FILTERS)


_FILTERS = ("dmin", "dmax", "amin", "amax", "alive", "token", "words", "tags", "labelled")
LABELLED = {"yes": True, "no": False}
_SORTS = {
    "index": FeatureSort.INDEX,
    "density": FeatureSort.DENSITY,
    "max": FeatureSort.MAX_ACTIVATION,
    "mean": FeatureSort.MEAN_ACTIVATION,
}


def list_form(params: QueryParams) -> ListForm:
    """The filters of a feature list; densities are typed in percent."""
    typed = {name: params.get(name, "").strip() for name in (*_FILTERS, "sort", "dir", "after")}
    typed["sort"] = _among(typed["sort"], _SORTS, "index")
    typed["dir"] = _among(typed["dir"], ("asc", "desc"), "asc")
    typed["alive"] = _among(typed["alive"], ("living", "dead"), "")
    typed["labelled"] = _among(typed["labelled"], LABELLED, "")
    numbers, problems = _numbers(typed, ("dmin", "dmax", "amin", "amax"))
    tags, wrong = asked_tags(typed["tags"])
    query = FeatureQuery(
        sort=_SORTS[typed["sort"]],
        descending=typed["dir"] == "desc",
        min_density=_percent(numbers["dmin"]),
        max_density=_percent(numbers["dmax"]),
        min_activation=numbers["amin"],
        max_activation=numbers["amax"],
        dead={"living": False, "dead": True}.get(typed["alive"]),
        token=typed["token"] or None,
        words=typed["words"].replace("\0", "")[:200] or None,
        tags=tags,
        labelled=LABELLED.get(typed["labelled"]),
        after=typed["after"] or None,
        limit=LIST_LIMIT,
    )
    return ListForm(typed=typed, query=query, problems=(*problems, *wrong))


def asked_tags(text: str) -> tuple[tuple[str, ...], tuple[FieldProblem, ...]]:
    """The tags that a filter asks for, and what is wrong with it."""
    try:
        return checked_tags(split_tags(text)), ()
    except Invalid as error:
        return (), (FieldProblem.of("tags", error),)


def kept_state(params: QueryParams) -> str:
    """What of a feature's address goes with the reader to the next feature, as a query.

    >>> kept_state(QueryParams("run=3&show=delta&band=top&x=1"))
    '?run=3&show=delta&band=top'
    """
    kept = [(name, value) for name, value in params.multi_items() if name in _KEPT]
    return f"?{urlencode(kept)}" if kept else ""


def harvest_choice(params: QueryParams) -> int | None:
    """The harvest that an address names; None where it names none."""
    return _number_of(params.get("harvest", ""))


def _number_of(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def harvest_suffix(harvest_id: int | None) -> str:
    """What keeps a harvest in an address.

    >>> harvest_suffix(3), harvest_suffix(None)
    ('?harvest=3', '')
    """
    return "" if harvest_id is None else f"?harvest={harvest_id}"


def _numbers(
    typed: dict[str, str], names: tuple[str, ...]
) -> tuple[dict[str, float | None], list[FieldProblem]]:
    found: dict[str, float | None] = {}
    problems = []
    for name in names:
        found[name] = None
        if not typed[name]:
            continue
        try:
            value = float(typed[name].rstrip("% ").replace(",", "."))
        except ValueError:
            value = -1.0
        if 0 <= value < float("inf"):
            found[name] = value
        else:
            problems.append(FieldProblem(path=name, message=gettext("Write a number from 0.")))
    return found, problems


def _percent(value: float | None) -> float | None:
    return None if value is None else value / 100


def _among(value: str | None, known: Container[str], default: str) -> str:
    return value if value and value in known else default
