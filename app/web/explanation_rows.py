"""Explanations and scores as templates need them: groups, aligned heat maps, comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from app.web import tokens
from core.domain.explanation import (
    ExplanationMethod,
    Failure,
    Floor,
    Measure,
    Metric,
    Score,
    ScoreKind,
    SimulationMode,
)
from core.domain.views_explain import (
    ExplanationCard,
    JudgedExample,
    ScoreCard,
    ScoreDetails,
    SimulatedExample,
)
from core.stats import Line, least_squares

METHODS = (
    ExplanationMethod.HUMAN,
    ExplanationMethod.LLM,
    ExplanationMethod.IMPORTED,
    ExplanationMethod.TOKEN_LOOKUP,
)
FLOORS = (Floor.SHUFFLED, Floor.TOKEN_LOOKUP, Floor.CONSTANT)
BESIDE = {
    ScoreKind.SIMULATION: (Metric.RANDOM_ONLY, Metric.CALIBRATED_R2),
    ScoreKind.DETECTION: (Metric.F1, Metric.AUROC),
    ScoreKind.FUZZING: (Metric.F1, Metric.AUROC),
}
GROUPS = ("top", "random", "calibration")
MOST_COMPARED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodGroup:
    """Explanations that came about in one way, the newest first."""

    method: ExplanationMethod
    cards: tuple[ExplanationCard, ...]


def by_method(cards: Sequence[ExplanationCard]) -> tuple[MethodGroup, ...]:
    """Explanations grouped, people's first and the baseline last; no group is empty."""
    groups = (
        MethodGroup(method=m, cards=tuple(c for c in cards if c.explanation.method is m))
        for m in METHODS
    )
    return tuple(group for group in groups if group.cards)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What makes two scores comparable: the kind, how it was simulated, and who judged."""

    kind: ScoreKind
    mode: SimulationMode | None
    judge: str


def yardstick_of(card: ScoreCard) -> Yardstick:
    """How a score was measured."""
    return Yardstick(card.score.kind, card.score.mode, card.score.judge)


def newest_scores(card: ExplanationCard) -> tuple[ScoreCard, ...]:
    """The newest score of each kind of test, in the order of kinds."""
    found: dict[Yardstick, ScoreCard] = {}
    for score in card.scores:
        found.setdefault(yardstick_of(score), score)
    order = list(ScoreKind)
    return tuple(sorted(found.values(), key=lambda score: order.index(score.score.kind)))


def metrics_of(score: Score) -> tuple[tuple[Metric, Measure], ...]:
    """Every metric of a score with its value or reason, in the order of metrics."""
    return tuple((m, score.metrics[m]) for m in Metric if m in score.metrics)


def metrics_beside(score: Score) -> tuple[tuple[Metric, Measure], ...]:
    """The metrics without which a kind's headline is easily misread, where they were measured."""
    return tuple((m, score.metrics[m]) for m in BESIDE.get(score.kind, ()) if m in score.metrics)


def floor_values(card: ScoreCard) -> list[float]:
    """The floors of a score that have a value."""
    values = (card.floor(floor).value for floor in FLOORS)
    return [value for value in values if value is not None]


def beats_floors(card: ScoreCard) -> bool:
    """Whether a score lies above every floor that has a value by more than chance.

    Where there is an interval of confidence, all of it has to. The baseline beats nothing.
    """
    floors, found = floor_values(card), card.headline
    if found.value is None or card.is_baseline or not floors:
        return False
    return (found.interval.low if found.interval else found.value) > max(floors)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One simulated context: real and simulated heat maps of the same tokens.

    Attributes:
        simulated: None when the whole context failed.
        real_values, simulated_values: comma-separated; empty for 0, ``?`` for what failed.
        n_failed: tokens that failed alone.
    """

    context_index: int
    real: tokens.Html
    simulated: tokens.Html | None
    real_values: str
    simulated_values: str
    peak: float
    simulated_peak: float | None
    scale_top: int
    n_failed: int
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGroup:
    """Simulated contexts of one group: ``top``, ``random`` or ``calibration``."""

    name: str
    rows: tuple[PairRow, ...]


def real_scale(details: ScoreDetails) -> float:
    """The largest real activation among a score's examples: the strongest colour; 0 without any."""
    simulated = (value for example in details.simulated for value in example.real)
    judged = (value for example in details.judged for value in example.real)
    return max(chain(simulated, judged), default=0.0)


def pair_groups(details: ScoreDetails) -> tuple[PairGroup, ...]:
    """The simulated contexts of a score by group; no group is empty."""
    scale = real_scale(details)
    groups = (
        PairGroup(
            name=name,
            rows=tuple(_pair(e, scale=scale) for e in details.simulated if e.group == name),
        )
        for name in GROUPS
    )
    return tuple(group for group in groups if group.rows)


def _pair(example: SimulatedExample, *, scale: float) -> PairRow:
    simulated = example.simulated
    return PairRow(
        context_index=example.context_index,
        real=tokens.record_html(example.tokens, [tokens.level(v, scale) for v in example.real]),
        simulated=None if simulated is None else _simulated_html(example, simulated),
        real_values=_csv(example.real),
        simulated_values=_csv(simulated or ()),
        peak=max(example.real, default=0.0),
        simulated_peak=None if simulated is None else max(_known(simulated), default=0.0),
        scale_top=example.scale_top,
        n_failed=sum(value is None for value in simulated or ()),
        failure=example.failure,
    )


def _simulated_html(example: SimulatedExample, values: Sequence[float | None]) -> tokens.Html:
    heats = [None if v is None else tokens.level(v, float(example.scale_top)) for v in values]
    return tokens.record_html(example.tokens, heats)


def calibration_line(details: ScoreDetails) -> Line | None:
    """The line from simulated to real activations, fitted on the calibration contexts alone."""
    pairs = [
        (value, real)
        for example in details.simulated
        if example.group == "calibration" and example.simulated is not None
        for value, real in zip(example.simulated, example.real, strict=True)
        if value is not None
    ]
    if not pairs:
        return None
    columns = np.array(pairs, dtype=np.float64)
    return least_squares(columns[:, 0], columns[:, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """One judged context.

    Attributes:
        outcome: ``miss``, ``alarm``, ``hit``, ``pass`` or ``failed``; ``fires`` or ``silent``
            where nothing was judged.
        similarity: cosine between the embeddings of text and context; None for judges.
    """

    context_index: int
    html: tokens.Html
    values: str
    peak: float
    label: bool
    verdict: bool | None
    probability: float | None
    similarity: float | None
    outcome: str
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGroup:
    """Judged contexts with one outcome."""

    name: str
    rows: tuple[JudgedRow, ...]


OUTCOMES = ("miss", "alarm", "failed", "hit", "pass", "fires", "silent")


def judged_groups(details: ScoreDetails) -> tuple[JudgedGroup, ...]:
    """The judged contexts of a score by outcome, errors first; no group is empty."""
    scale = real_scale(details)
    rows = [_judged(example, scale=scale) for example in details.judged]
    rows.sort(key=lambda row: -(row.similarity or 0.0))
    groups = (
        JudgedGroup(name=name, rows=tuple(row for row in rows if row.outcome == name))
        for name in OUTCOMES
    )
    return tuple(group for group in groups if group.rows)


def _judged(example: JudgedExample, *, scale: float) -> JudgedRow:
    heats = [tokens.level(value, scale) for value in example.real]
    return JudgedRow(
        context_index=example.context_index,
        html=tokens.record_html(example.tokens, heats, marked=frozenset(example.marked or ())),
        values=_csv(example.real),
        peak=max(example.real, default=0.0),
        label=example.label,
        verdict=example.verdict,
        probability=example.probability,
        similarity=example.similarity,
        outcome=_outcome(example),
        failure=example.failure,
    )


def _outcome(example: JudgedExample) -> str:
    if example.similarity is not None:
        return "fires" if example.label else "silent"
    if example.verdict is None:
        return "failed"
    if example.verdict == example.label:
        return "hit" if example.label else "pass"
    return "miss" if example.label else "alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One kind of test over explanations side by side.

    Attributes:
        cells: one an explanation, in their order; None where it was not tested so.
        best: place of the highest value; None with fewer than two values.
        lead: how far it is above the second; None likewise.
        apart: whether the 95 % intervals of the two do not meet; None when one is not known.
    """

    yardstick: Yardstick
    cells: tuple[ScoreCard | None, ...]
    best: int | None
    lead: float | None
    apart: bool | None


def compare(cards: Sequence[ExplanationCard]) -> tuple[Comparison, ...]:
    """Every kind of test that any of the explanations went through, in the order of kinds."""
    scores = [{yardstick_of(s): s for s in reversed(card.scores)} for card in cards]
    order = list(ScoreKind)
    found = sorted(
        {one for each in scores for one in each},
        key=lambda one: (order.index(one.kind), one.mode or "", one.judge),
    )
    return tuple(_comparison(one, tuple(each.get(one) for each in scores)) for one in found)


def _comparison(yardstick: Yardstick, cells: tuple[ScoreCard | None, ...]) -> Comparison:
    known = [
        (cell.headline.value, place)
        for place, cell in enumerate(cells)
        if cell is not None and cell.headline.value is not None
    ]
    if len(known) < 2:
        return Comparison(yardstick=yardstick, cells=cells, best=None, lead=None, apart=None)
    known.sort(key=lambda pair: (-pair[0], pair[1]))
    (first, best), (second, other) = known[:2]
    return Comparison(
        yardstick=yardstick,
        cells=cells,
        best=best,
        lead=first - second,
        apart=_apart(cells[best], cells[other]),
    )


def _apart(first: ScoreCard | None, second: ScoreCard | None) -> bool | None:
    high = first.headline.interval if first else None
    low = second.headline.interval if second else None
    return None if high is None or low is None else high.low > low.high


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _csv(values: Sequence[float | None]) -> str:
    return ",".join("?" if v is None else f"{v:.4g}" if v else "" for v in values)
