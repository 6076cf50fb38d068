"""Numbers of the SVG macros: where bars, ticks and marks stand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from app.web import i18n
from app.web.tokens import LEVELS, level
from core.domain.activation import Histogram
from core.domain.views import TokenWeight

WIDTH, HEIGHT = 560.0, 172.0
NARROW_WIDTH, NARROW_HEIGHT = 290.0, 118.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 6.0, 22.0, 20.0
MAX_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart, in units of the drawing.

    Attributes:
        heat: heat level 1–12 whose colour it wears.
        title: what it says when pointed at.
        low, high: the range of values it counts.
    """

    x: float
    y: float
    width: float
    height: float
    heat: int
    title: str
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A place on an axis, or a mark in a chart, with its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Everything that the chart macro draws; label is the sentence for who cannot see it."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    label: str
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    base: float = HEIGHT - BOTTOM
    top: float = TOP


def histogram_chart(histogram: Histogram, *, maximum: float) -> BarChart:
    """A feature's activations: tokens a bin on a log scale, in the heat map's colours."""
    width = histogram.bin_width
    last = max(1, math.ceil(maximum / width))
    counts = histogram.counts[:last].astype(np.int64)
    quantiles = [(q, quantile(histogram, q)) for q in (0.5, 0.9, 0.99)]
    span = last * width
    scale_x = (WIDTH - LEFT - RIGHT) / span
    bars = _bars(counts, width=width, scale_x=scale_x, maximum=maximum)
    marks = [
        Tick(at=LEFT + value * scale_x, text=f"p{q * 100:.0f} {i18n.significant(value)}")
        for q, value in quantiles
    ]
    return BarChart(
        bars=bars,
        x_ticks=tuple(
            Tick(at=LEFT + value * scale_x, text=i18n.significant(value))
            for value in nice_ticks(span)
        ),
        y_ticks=_log_ticks(int(counts.max(initial=0))),
        marks=_spread(marks),
        label=i18n.gettext(
            "Histogram of %(n)s positive activations up to %(max)s: half lie below %(p50)s, "
            "90 %% below %(p90)s, 99 %% below %(p99)s."
        )
        % {
            "n": i18n.number(int(counts.sum())),
            "max": i18n.significant(maximum),
            **{f"p{q * 100:.0f}": i18n.significant(value) for q, value in quantiles},
        },
    )


def density_chart(density: Float[np.ndarray, " feature"]) -> BarChart:
    """The living features of an SAE by density, on a log axis."""
    living = density[density > 0]
    low = math.floor(math.log10(float(living.min()))) if living.size else -4
    edges = np.logspace(low, 0, 4 * max(1, -low) + 1)
    counts, _ = np.histogram(living, edges)
    step = (NARROW_WIDTH - LEFT - RIGHT) / len(counts)
    base, room = NARROW_HEIGHT - BOTTOM, NARROW_HEIGHT - BOTTOM - TOP
    top = max(1, int(counts.max(initial=0)))
    return BarChart(
        bars=_density_bars(counts, edges, step=step),
        x_ticks=tuple(
            Tick(at=LEFT + 4 * place * step, text=i18n.percent(10.0**power, 1))
            for place, power in enumerate(range(low, 1))
            if (power - low) % 2 == 0
        ),
        y_ticks=tuple(
            Tick(at=base - room * value / top, text=i18n.compact(value))
            for value in nice_ticks(float(top), most=3)[1:]
        ),
        marks=(),
        label=i18n.gettext("Density of %(n)s living features, most of them near %(mode)s.")
        % {
            "n": i18n.number(int(living.size)),
            "mode": i18n.percent(float(edges[int(counts.argmax())]), 2) if living.size else "–",
        },
        width=NARROW_WIDTH,
        height=NARROW_HEIGHT,
        base=base,
    )


def _density_bars(
    counts: Int[np.ndarray, " bin"], edges: Float[np.ndarray, " bin_plus_1"], *, step: float
) -> tuple[Bar, ...]:
    room = NARROW_HEIGHT - BOTTOM - TOP
    top = max(1, int(counts.max(initial=0)))
    bars = []
    for place, count in enumerate(counts.tolist()):
        low, high = float(edges[place]), float(edges[place + 1])
        height = max(1.0, room * count / top)
        title = i18n.gettext("%(n)s features from %(low)s to %(high)s") % {
            "n": i18n.number(count),
            "low": i18n.percent(low, 2),
            "high": i18n.percent(high, 2),
        }
        bars.append(
            Bar(
                x=LEFT + place * step,
                y=NARROW_HEIGHT - BOTTOM - height,
                width=max(1.0, step - 1),
                height=height,
                heat=0,
                title=title,
                low=low,
                high=high,
                count=count,
            )
        )
    return tuple(bars)


def percent_text(share: float) -> str:
    """A share in percent as it is typed into a filter.

    >>> percent_text(0.001), percent_text(3.1623e-06)
    ('0.1', '0.000316')
    """
    return f"{float(f'{100 * share:.3g}'):.10f}".rstrip("0").rstrip(".")


def quantile(histogram: Histogram, share: float) -> float:
    """The activation below which this share of the positive ones lies, linear inside a bin.

    >>> quantile(Histogram(exponent=6, counts=np.full(64, 2, dtype=np.uint32)), 0.5)
    32.0
    """
    counts = histogram.counts.astype(np.float64)
    total = counts.sum()
    if total == 0:
        return 0.0
    below = np.cumsum(counts)
    place = int(np.searchsorted(below, share * total))
    before = below[place] - counts[place]
    inside = (share * total - before) / counts[place] if counts[place] else 0.0
    return float((place + inside) * histogram.bin_width)


def nice_ticks(span: float, *, most: int = MAX_TICKS) -> list[float]:
    """Round values from 0 up to a span, at most so many steps.

    >>> nice_ticks(42.07)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if span <= 0:
        return [0.0]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [place * step for place in range(int(span / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBar:
    """A token with its weight and the share of the largest weight, in percent."""

    token_id: int
    value: float
    share: float


def weight_bars(weights: Sequence[TokenWeight], *, largest: float) -> tuple[WeightBar, ...]:
    """Bars of token weights against the largest of both lists."""
    return tuple(
        WeightBar(
            token_id=weight.token_id,
            value=weight.value,
            share=round(100 * abs(weight.value) / largest, 1) if largest > 0 else 0.0,
        )
        for weight in weights
    )


def _bars(
    counts: Int[np.ndarray, " bin"], *, width: float, scale_x: float, maximum: float
) -> tuple[Bar, ...]:
    top = math.log10(max(2, int(counts.max(initial=0))) * 1.15)
    room = HEIGHT - BOTTOM - TOP
    bars = []
    for place, count in enumerate(counts.tolist()):
        height = room * max(0.06, math.log10(count) / top) if count else 0.0
        low, high = place * width, (place + 1) * width
        title = i18n.gettext("%(low)s to %(high)s: %(n)s tokens") % {
            "low": i18n.significant(low),
            "high": i18n.significant(high),
            "n": i18n.number(count),
        }
        bars.append(
            Bar(
                x=round(LEFT + low * scale_x, 2),
                y=round(HEIGHT - BOTTOM - height, 2),
                width=round(max(1.0, width * scale_x - 1), 2),
                height=round(height, 2),
                heat=min(LEVELS, level((low + high) / 2, maximum)),
                title=title,
                low=low,
                high=high,
                count=count,
            )
        )
    return tuple(bars)


def _log_ticks(largest: int) -> tuple[Tick, ...]:
    top = math.log10(max(2, largest) * 1.15)
    powers = range(math.floor(top) + 1)
    room = HEIGHT - BOTTOM - TOP
    return tuple(
        Tick(at=HEIGHT - BOTTOM - room * power / top, text=i18n.compact(10**power))
        for power in powers
        if power > 0
    )


def _spread(marks: list[Tick]) -> tuple[Tick, ...]:
    """Marks whose texts do not run into each other; a mark too near the one before is left out."""
    kept: list[Tick] = []
    for mark in marks:
        if not kept or mark.at - kept[-1].at >= 52:
            kept.append(mark)
    return tuple(kept)
