"""The filters of the page of what moved, and where its bars end."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from app.services.problems import FieldProblem
from app.web.forms import LABELLED, asked_tags
from app.web.i18n import gettext
from core.domain.views_drift import DriftQuery, DriftRow, DriftSort, Treatment

LIST_LIMIT = 50
_EXPLAINED = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedForm:
    """The filters as typed, what they mean, and what is wrong with them."""

    typed: dict[str, str]
    query: DriftQuery
    problems: tuple[FieldProblem, ...]

    @property
    def active(self) -> bool:
        """Whether any filter is set."""
        return any(
            self.typed[name]
            for name in ("words", "explained", "treatment", "dmin", "tags", "labelled")
        )


def moved_form(params: QueryParams) -> MovedForm:
    """The filters of an address; densities are typed in percent."""
    names = ("words", "explained", "treatment", "dmin", "tags", "labelled", "sort", "dir", "after")
    typed = {name: params.get(name, "").strip() for name in names}
    typed["sort"] = typed["sort"] if typed["sort"] in set(DriftSort) else DriftSort.LARGEST.value
    typed["dir"] = "asc" if typed["dir"] == "asc" else "desc"
    typed["explained"] = typed["explained"] if typed["explained"] in _EXPLAINED else ""
    typed["treatment"] = typed["treatment"] if typed["treatment"] in set(Treatment) else ""
    typed["labelled"] = typed["labelled"] if typed["labelled"] in LABELLED else ""
    density, problems = _percent(typed["dmin"])
    tags, wrong = asked_tags(typed["tags"])
    query = DriftQuery(
        sort=DriftSort(typed["sort"]),
        descending=typed["dir"] == "desc",
        words=typed["words"].replace("\0", "")[:200] or None,
        tags=tags,
        labelled=LABELLED.get(typed["labelled"]),
        explained=_EXPLAINED.get(typed["explained"]),
        treatment=Treatment(typed["treatment"]) if typed["treatment"] else None,
        min_density=density,
        after=typed["after"] or None,
        limit=LIST_LIMIT,
    )
    return MovedForm(typed=typed, query=query, problems=(*problems, *wrong))


def largest_change(rows: Sequence[DriftRow]) -> float:
    """The largest change of a mean among rows, which the bars are drawn against."""
    places = (place for row in rows for place in (row.chosen, row.rejected, row.corpus) if place)
    return max((abs(place.delta) for place in places), default=0.0)


def treatment_word(treatment: Treatment) -> str:
    """How a run's constraint treated a feature, in a word."""
    return {
        Treatment.HELD: gettext("held"),
        Treatment.FREE: gettext("free"),
        Treatment.OTHER: gettext("top-k"),
        Treatment.NONE: gettext("not constrained"),
    }[treatment]


def _percent(text: str) -> tuple[float | None, tuple[FieldProblem, ...]]:
    if not text:
        return None, ()
    try:
        value = float(text.rstrip("% ").replace(",", "."))
    except ValueError:
        value = -1.0
    if 0 <= value <= 100:
        return value / 100, ()
    wrong = FieldProblem(path="dmin", message=gettext("Write a percentage from 0 to 100."))
    return None, (wrong,)
