"""The form of a run of explanations: what stands in it, and the settings that it means."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.services.problems import FieldProblem
from app.web.i18n import gettext
from core.domain.explain_job import MAX_LISTED_FEATURES
from core.domain.views import SaeCard
from core.domain.views_explain import EndpointCard

NONE, OFFLINE = "none", "offline"
LISTS = ("explainer.styles", "scorer.kinds", "scorer.existing")
FLAGS = (
    "features.descending",
    "explainer.choose_best",
    "explainer.skip_explained",
    "scorer.shuffled_floor",
)
PERCENTS = ("features.min_density", "features.max_density")
OF_SELECTION = {
    "all": (),
    "sample": ("n",),
    "list": (),
    "query": (
        *("sort", "min_density", "max_density", "min_activation", "max_activation"),
        *("token", "limit"),
    ),
}
EXPLAINER = ("language", "n_records", "n_samples", "temperature")
SCORER = ("language", "mode", "n_score", "n_judged", "embedder_id")
BUDGET = ("max_cost", "max_tokens", "max_requests")
_DEFAULTS = {
    "features.by": "sample",
    "features.n": "100",
    "features.sort": "density",
    "features.limit": "100",
    "explainer.endpoint": OFFLINE,
    "explainer.language": "en",
    "explainer.n_records": "5",
    "explainer.n_samples": "1",
    "explainer.temperature": "1",
    "scorer.endpoint": OFFLINE,
    "scorer.language": "en",
    "scorer.n_score": "5",
    "scorer.n_judged": "20",
    "seed": "0",
}
_DEFAULT_LISTS = {
    "explainer.styles": ("records",),
    "scorer.kinds": ("simulation",),
    "scorer.existing": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunForm:
    """What stands in the fields of the form.

    Attributes:
        typed: text of each field by its dotted name.
        ticked: chosen values of each group of boxes.
        flags: single boxes that are ticked.
    """

    typed: Mapping[str, str]
    ticked: Mapping[str, tuple[str, ...]]
    flags: frozenset[str]
    problems: tuple[FieldProblem, ...] = ()

    def text(self, name: str) -> str:
        """What stands in a field."""
        return self.typed.get(name, "")

    def has(self, name: str, value: str = "") -> bool:
        """Whether a box is ticked."""
        return value in self.ticked.get(name, ()) if value else name in self.flags

    def wrong(self, name: str) -> bool:
        """Whether a field has to be mended."""
        return any(problem.path == name for problem in self.problems)

    @property
    def loose_problems(self) -> tuple[FieldProblem, ...]:
        """Problems that belong to no field of the form."""
        known = {*self.typed, *_DEFAULTS, *LISTS, *FLAGS, "sae", "features.indices"}
        known |= {f"budget.{name}" for name in BUDGET}
        return tuple(problem for problem in self.problems if problem.path not in known)

    def with_problems(self, problems: Iterable[FieldProblem]) -> "RunForm":
        """The form with what has to be mended, at the fields' names in the form."""
        return replace(self, problems=tuple(_at_field(problem) for problem in problems))

    def values(self) -> tuple[dict[str, object], list[FieldProblem]]:
        """Nested values for the check, and what cannot be read at all."""
        problems: list[FieldProblem] = []
        model_id, _, sae_id = self.text("sae").partition("/")
        values: dict[str, object] = {
            "model_id": model_id,
            "sae_id": sae_id,
            "features": self._features(problems),
            "explainer": self._explainer(),
            "scorer": self._scorer(),
            "budget": self._filled("budget", BUDGET),
        }
        if self.text("seed").strip():
            values["seed"] = self.text("seed").strip()
        return values, problems

    def _features(self, problems: list[FieldProblem]) -> dict[str, object]:
        by = self.text("features.by")
        found: dict[str, object] = {
            "by": by,
            **self._filled("features", OF_SELECTION.get(by, ())),
        }
        if by == "list":
            try:
                found["indices"] = read_indices(self.text("features.indices"))
            except ValueError as error:
                problems.append(FieldProblem(path="features.indices", message=str(error)))
        if by == "query":
            found["descending"] = self.has("features.descending")
            for name in PERCENTS:
                self._as_share(found, name, problems)
        return found

    def _as_share(self, found: dict[str, object], name: str, problems: list[FieldProblem]) -> None:
        key = name.partition(".")[2]
        if key not in found:
            return
        try:
            found[key] = float(str(found[key]).rstrip("% ")) / 100
        except ValueError:
            problems.append(FieldProblem(path=name, message=gettext("Write a number from 0.")))

    def _explainer(self) -> dict[str, object] | None:
        endpoint = self.text("explainer.endpoint")
        if endpoint == NONE:
            return None
        return {
            **self._filled("explainer", EXPLAINER),
            "endpoint_id": None if endpoint == OFFLINE else endpoint,
            "styles": list(self.ticked.get("explainer.styles", ())),
            "choose_best": self.has("explainer.choose_best"),
            "skip_explained": self.has("explainer.skip_explained"),
        }

    def _scorer(self) -> dict[str, object] | None:
        endpoint = self.text("scorer.endpoint")
        if endpoint == NONE:
            return None
        found = {
            **self._filled("scorer", SCORER),
            "endpoint_id": None if endpoint == OFFLINE else endpoint,
            "kinds": list(self.ticked.get("scorer.kinds", ())),
            "existing": list(self.ticked.get("scorer.existing", ())),
            "shuffled_floor": self.has("scorer.shuffled_floor"),
        }
        if not self.has("scorer.kinds", "embedding"):
            found.pop("embedder_id", None)
        if endpoint == OFFLINE:
            found.pop("mode", None)
        return found

    def _filled(self, group: str, names: Iterable[str]) -> dict[str, object]:
        pairs = ((name, self.text(f"{group}.{name}").strip()) for name in names)
        return {name: value for name, value in pairs if value}


def fresh(
    query: Mapping[str, str], *, saes: Iterable[SaeCard], endpoints: Iterable[EndpointCard]
) -> RunForm:
    """A form with defaults, and with what an address names: SAE, features, endpoint, filters."""
    chat = [card for card in endpoints if card.abilities is None or card.abilities.chat]
    asked = query.get("endpoint") or next((str(card.endpoint_id) for card in chat), OFFLINE)
    typed = {**_DEFAULTS, "explainer.endpoint": asked, "scorer.endpoint": asked}
    first = next(iter(saes), None)
    if first is not None:
        typed["sae"] = f"{first.model_id}/{first.sae_id}"
    if query.get("model") and query.get("sae"):
        typed["sae"] = f"{query['model']}/{query['sae']}"
    if query.get("features"):
        typed |= {"features.by": "list", "features.indices": query["features"]}
    filters = {
        "dmin": "min_density",
        "dmax": "max_density",
        "amin": "min_activation",
        "amax": "max_activation",
        "token": "token",
    }
    named = {f"features.{field}": query[n] for n, field in filters.items() if query.get(n)}
    if named:
        typed |= {"features.by": "query", **named}
    return RunForm(
        typed=typed,
        ticked=_DEFAULT_LISTS,
        flags=frozenset({"scorer.shuffled_floor", "features.descending"}),
    )


def from_post(posted: Iterable[tuple[str, str]]) -> RunForm:
    """A form as somebody sent it."""
    pairs = list(posted)
    return RunForm(
        typed={name: value for name, value in pairs if name not in {*LISTS, *FLAGS}},
        ticked={name: tuple(v for n, v in pairs if n == name) for name in LISTS},
        flags=frozenset(name for name, _ in pairs if name in FLAGS),
    )


def read_indices(text: str) -> list[int]:
    """Feature numbers from a list with ranges, each once, in their order.

    >>> read_indices("7, 12-14 7")
    [7, 12, 13, 14]

    Raises:
        ValueError: something in it is no number, or there are too many; the message says so.
    """
    found: dict[int, None] = {}
    for part in re.split(r"[\s,;，；、]+", text.strip()):
        match = re.fullmatch(r"([0-9]{1,9})(?:[-–]([0-9]{1,9}))?", part)
        if part and match is None:
            raise ValueError(gettext("“%(part)s” is no feature number.") % {"part": part[:40]})
        if match is None:
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MAX_LISTED_FEATURES:
            raise ValueError(_too_many())
        found.update(dict.fromkeys(range(first, last + 1)))
        if len(found) > MAX_LISTED_FEATURES:
            raise ValueError(_too_many())
    if not found:
        raise ValueError(gettext("Write feature numbers, such as 7, 12-20."))
    return list(found)


def write_indices(indices: Iterable[int]) -> str:
    """A list with ranges that ``read_indices`` reads.

    >>> write_indices([14, 7, 12, 13])
    '7, 12-14'
    """
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _too_many() -> str:
    return gettext("List at most %(n)s features.") % {"n": MAX_LISTED_FEATURES}


def _at_field(problem: FieldProblem) -> FieldProblem:
    """A problem of the settings at the name that the form has for it."""
    steps = problem.path.split(".")
    if steps[0] == "features" and len(steps) > 2 and steps[1] in OF_SELECTION:
        steps = [steps[0], *steps[2:]]  # without the union's tag
    path = ".".join(step for step in steps if not step.isdigit())
    names = {
        "model_id": "sae",
        "sae_id": "sae",
        "explainer.endpoint_id": "explainer.endpoint",
        "scorer.endpoint_id": "scorer.endpoint",
        "scorer": "scorer.kinds",
    }
    return replace(problem, path=names.get(path, path))
