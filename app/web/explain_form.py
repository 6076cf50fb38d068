"""The form by which one feature is explained: choices as sent, and the settings they mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.services.problems import FieldProblem
from app.web.i18n import gettext
from core.domain.explain_job import ExplainerSetting, ScorerSetting
from core.domain.explanation import EvidenceStyle, SimulationMode
from core.domain.views_explain import EndpointCard, ExplanationCard

KINDS = ("simulation", "detection", "fuzzing", "embedding")
LANGUAGES = ("en", "zh")
TABLE = "table"  # the token lookup table in place of an endpoint
NOBODY = "nobody"
NUMBERS = ("n_records", "n_samples", "temperature", "n_score", "n_judged", "seed")
_EXPLAINER = ExplainerSetting()
_SCORER = ScorerSetting()
_DEFAULTS = {
    "n_records": str(_EXPLAINER.n_records),
    "n_samples": str(_EXPLAINER.n_samples),
    "temperature": f"{_EXPLAINER.temperature:g}",
    "n_score": str(_SCORER.n_score),
    "n_judged": str(_SCORER.n_judged),
    "seed": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainForm:
    """What is chosen in the form.

    Attributes:
        by: id of the endpoint that explains, or ``table``.
        judge: id of the endpoint that scores, ``table`` or ``nobody``.
        embedder: id of the endpoint that embeds texts; empty where there is none.
        styles: what the explainer is shown.
        kinds: of tests.
        mode: how to simulate; empty for the best that the endpoint can do.
        typed: text of each number by its name.
        score: the explanation that is only scored; None when the feature is explained.
    """

    by: str
    judge: str
    embedder: str
    styles: tuple[str, ...]
    language: str
    kinds: tuple[str, ...]
    mode: str
    shuffled: bool
    typed: dict[str, str]
    score: int | None = None
    problems: tuple[FieldProblem, ...] = ()

    @property
    def offline(self) -> bool:
        """Whether the token lookup table explains."""
        return self.by == TABLE

    def missing(self) -> tuple[FieldProblem, ...]:
        """What still has to be chosen."""
        problems = []
        if self.score is None and not self.styles:
            message = gettext("Choose what the explainer is shown.")
            problems.append(FieldProblem(path="styles", message=message))
        if self.judge != NOBODY and not self.kinds:
            message = gettext("Choose a kind of test, or nobody to test.")
            problems.append(FieldProblem(path="kinds", message=message))
        if "embedding" in self.kinds and not self.embedder:
            message = gettext("No endpoint that was tested embeds texts.")
            problems.append(FieldProblem(path="kinds", message=message))
        return tuple(problems)

    def explainer(self) -> dict[str, object]:
        """Settings of the explainer as the check reads them."""
        return {
            "endpoint_id": _endpoint(self.by),
            "styles": list(self.styles),
            "language": self.language,
            "choose_best": self.chooses,
            **{name: self.typed[name] for name in ("n_records", "n_samples", "temperature")},
        }

    @property
    def chooses(self) -> bool:
        """Whether of several samples the best is found: where an endpoint can test them."""
        tested = _endpoint(self.judge) is not None or "embedding" in self.kinds
        several = (_number(self.typed["n_samples"]) or 1) > 1
        return several and not self.offline and self.judge != NOBODY and tested

    def scorer(self, card: ExplanationCard | None) -> dict[str, object] | None:
        """Settings of the scorer; None when nobody scores."""
        if self.judge == NOBODY:
            return None
        existing = [] if card is None else [card.explanation.method.value]
        return {
            "endpoint_id": _endpoint(self.judge),
            "embedder_id": _endpoint(self.embedder) if "embedding" in self.kinds else None,
            "kinds": list(self.kinds),
            "mode": self.mode or None,
            "language": self.language,
            "shuffled_floor": self.shuffled,
            "existing": existing,
            **{name: self.typed[name] for name in ("n_score", "n_judged")},
        }


def from_fields(
    fields: Iterable[tuple[str, str]], endpoints: Sequence[EndpointCard]
) -> ExplainForm:
    """The form as an address or a post says; unknown words count as not chosen.

    A form that was never sent has the first endpoint chosen, or the table where there is none.
    """
    pairs = list(fields)
    sent = dict(pairs)
    fresh = "sent" not in sent
    known = {str(card.endpoint_id) for card in endpoints}
    first = str(endpoints[0].endpoint_id) if endpoints else TABLE
    by = _among(sent.get("by"), {*known, TABLE}, first)
    judge = _among(sent.get("judge"), {*known, TABLE, NOBODY}, by)
    kinds = _all_of(pairs, "kinds", KINDS)
    if fresh and not kinds:
        kinds = ("simulation",)
    if judge == TABLE:
        kinds = tuple(kind for kind in kinds if kind in {"simulation", "embedding"})
    styles = _all_of(pairs, "styles", [style.value for style in EvidenceStyle])
    return ExplainForm(
        by=by,
        judge=judge,
        embedder=_embedder(sent.get("embedder"), endpoints),
        styles=styles or ((EvidenceStyle.RECORDS.value,) if fresh or by == TABLE else ()),
        language=_among(sent.get("language"), LANGUAGES, "en"),
        kinds=kinds,
        mode="" if judge == TABLE else _among(sent.get("mode"), _modes(), ""),
        shuffled=fresh or "shuffled" in sent,
        typed={name: sent.get(name, default).strip() for name, default in _DEFAULTS.items()},
        score=_number(sent.get("score", "")),
    )


def embedders(endpoints: Sequence[EndpointCard]) -> tuple[EndpointCard, ...]:
    """Endpoints that are known to embed texts."""
    return tuple(card for card in endpoints if card.abilities and card.abilities.embedding_size)


def _embedder(chosen: str | None, endpoints: Sequence[EndpointCard]) -> str:
    known = [str(card.endpoint_id) for card in embedders(endpoints)]
    return _among(chosen, known, next(iter(known), ""))


def _modes() -> set[str]:
    return {mode.value for mode in SimulationMode if mode is not SimulationMode.TOKEN_LOOKUP}


def _endpoint(choice: str) -> int | None:
    return _number(choice)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else None


def _among(value: str | None, known: Iterable[str], default: str) -> str:
    return value if value is not None and value in set(known) else default


def _all_of(pairs: Iterable[tuple[str, str]], name: str, known: Sequence[str]) -> tuple[str, ...]:
    chosen = {value for key, value in pairs if key == name}
    return tuple(value for value in known if value in chosen)
