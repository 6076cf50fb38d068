"""Numbers of the pictures of scores: small histograms with their median and their floors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.web import explain_words, i18n
from core.domain.explanation import Floor, Metric, ScoreKind
from core.domain.views_explain import ScoreDistribution

WIDTH, HEIGHT = 320.0, 46.0
BASE, TOP = 36.0, 3.0
BIN = 0.05
_CORRELATIONS = frozenset({Metric.TOP_AND_RANDOM, Metric.RANDOM_ONLY, Metric.CALIBRATED_R2})
_LOWEST = -0.5  # of correlations; what lies below is counted in the first bar


@dataclass(frozen=True, slots=True, kw_only=True)
class StripBar:
    """One bar, in units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StripMark:
    """A floor's median: where it stands, which floor, and its text."""

    x: float
    floor: Floor
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A distribution as a picture; label is the sentence for who cannot see it.

    Attributes:
        median: place of the median; None without values.
        ticks: places on the axis with their texts.
    """

    found: ScoreDistribution
    bars: tuple[StripBar, ...]
    marks: tuple[StripMark, ...]
    median: float | None
    ticks: tuple[tuple[float, str], ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StripGroup:
    """Distributions of one kind of test, whose axes agree."""

    kind: ScoreKind
    metric: Metric
    strips: tuple[Strip, ...]


def strip_groups(found: Sequence[ScoreDistribution]) -> tuple[StripGroup, ...]:
    """Distributions by kind of test, within a kind by model, layer and method."""
    groups = []
    for kind in ScoreKind:
        mine = [one for one in found if one.kind is kind]
        if mine:
            ordered = sorted(mine, key=_place)
            groups.append(
                StripGroup(
                    kind=kind,
                    metric=mine[0].metric,
                    strips=tuple(strip(one) for one in ordered),
                )
            )
    return tuple(groups)


def strip(found: ScoreDistribution) -> Strip:
    """The picture of one distribution."""
    low = _LOWEST if found.metric in _CORRELATIONS else 0.0
    edges = np.round(np.arange(low, 1.0 + BIN / 2, BIN), 10)
    values = np.clip(np.array(found.values, dtype=np.float64), low, 1.0)
    counts, _ = np.histogram(values, edges)
    return Strip(
        found=found,
        bars=_bars(counts.tolist(), edges.tolist(), low=low),
        marks=tuple(
            StripMark(
                x=_x(value, low),
                floor=floor,
                text=f"{explain_words.floor_word(floor)} {i18n.number(value)}",
            )
            for floor, value in sorted(found.floors.items())
        ),
        median=None if found.median is None else _x(found.median, low),
        ticks=tuple((_x(tick, low), f"{tick:g}".replace("-", "−")) for tick in _ticks(low)),
        label=_label(found),
    )


def _bars(counts: list[int], edges: list[float], *, low: float) -> tuple[StripBar, ...]:
    most = max(counts, default=0)
    bars = []
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if not count:
            continue
        height = max(2.0, (BASE - TOP) * count / most)
        title = i18n.gettext("%(low)s to %(high)s: %(n)s") % {
            "low": i18n.number(left),
            "high": i18n.number(right),
            "n": i18n.number(count),
        }
        start = _x(left, low)
        bars.append(
            StripBar(
                x=round(start, 2),
                y=round(BASE - height, 2),
                width=round(_x(right, low) - start - 1, 2),
                height=round(height, 2),
                title=title,
            )
        )
    return tuple(bars)


def _ticks(low: float) -> tuple[float, ...]:
    return (-0.5, 0.0, 0.5, 1.0) if low < 0 else (0.0, 0.5, 1.0)


def _x(value: float, low: float) -> float:
    share = (min(1.0, max(low, value)) - low) / (1.0 - low)
    return round(6 + share * (WIDTH - 12), 2)


def _place(found: ScoreDistribution) -> tuple[str, int, str, str, str, str, str]:
    return (
        found.model_id,
        -1 if found.layer is None else found.layer,
        found.sae_id,
        found.method,
        found.style or "",
        found.mode or "",
        found.judge,
    )


def _label(found: ScoreDistribution) -> str:
    if found.median is None:
        return i18n.gettext("%(n)s scores, none with a value.") % {"n": i18n.number(found.n)}
    floors = ", ".join(
        f"{explain_words.floor_word(floor)} {i18n.number(value)}"
        for floor, value in sorted(found.floors.items())
    )
    return i18n.gettext("%(n)s scores, median %(median)s; floors: %(floors)s.") % {
        "n": i18n.number(found.n),
        "median": i18n.number(found.median),
        "floors": floors or "–",
    }
