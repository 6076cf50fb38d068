"""Curves of runs: which numbers stand in which plot, and each plot drawn for who has no script."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.services.jobs.metric_history import MetricTable, thinned
from app.web import i18n
from app.web.charts import Tick

WIDTH, HEIGHT = 400.0, 148.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 18.0, 8.0, 20.0
MOST_DRAWN = 240
DOTS_UP_TO = 60
_NOISE = 1e-9  # below it, a number of a run is rounding
Points = Sequence[tuple[float, float]]


class Form(StrEnum):
    """How the numbers of an axis are written."""

    PLAIN = "plain"
    PERCENT = "percent"
    BYTES = "bytes"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One number over the steps of one run.

    Attributes:
        table: which run's, by its key in the page's data.
        name: the metric's name.
        tone: colour 1–6.
        smooth: whether it is noisy, so that its smoothed course is drawn over it.
        points: steps with values, for the drawing and for the value in the legend.
    """

    table: str
    name: str
    label: str
    tone: int
    smooth: bool
    points: Points

    @property
    def dots(self) -> bool:
        """Whether its values are few and each is worth a dot."""
        return self.name.startswith("eval_")

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self.points[-1][1] if self.points else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """A line of a drawing: its corners as SVG writes them, and dots where there are few."""

    tone: int
    corners: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Everything that the plot macro draws; label is the sentence for who cannot see it."""

    strokes: tuple[Stroke, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    label: str
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    base: float = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot of a few lines over the same steps.

    Attributes:
        unit: of the values; empty for none.
        live: whether the script may draw it anew as numbers come.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    unit: str = ""
    form: Form = Form.PLAIN
    x_form: Form = Form.PLAIN
    x_title: str = ""
    live: bool = True
    drawing: Drawing = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawing", _draw(self))

    @property
    def data(self) -> str:
        """Its lines as the script reads them."""
        return json.dumps(
            [
                {"table": e.table, "name": e.name, "smooth": e.smooth, "dots": e.dots}
                for e in self.lines
            ]
        )


def written(value: float | None, form: Form) -> str:
    """A value as it stands in a legend or beside an axis.

    >>> written(0.5462, Form.PLAIN), written(0.8333, Form.PERCENT), written(None, Form.PLAIN)
    ('0.546', '83.3%', '–')
    """
    if value is None:
        return "–"
    match form:
        case Form.PERCENT:
            return i18n.percent(value).replace("-", "−")
        case Form.BYTES:
            return i18n.size(value)
        case Form.SECONDS:
            return i18n.duration(value)
        case Form.PLAIN:
            if abs(value) < _NOISE:
                return "0"
            large = abs(value) >= 10_000
            return (i18n.compact(value) if large else i18n.significant(value)).replace("-", "−")


def line(
    table: MetricTable,
    name: str,
    label: str,
    *,
    tone: int,
    smooth: bool = True,
    key: str = "run",
) -> Line:
    """A number of a run as a line."""
    return Line(
        table=key, name=name, label=label, tone=tone, smooth=smooth, points=table.points(name)
    )


def ticks_between(low: float, high: float, *, most: int) -> list[float]:
    """Round values inside a range, at most about so many.

    >>> ticks_between(0.52, 0.71, most=4)
    [0.55, 0.6, 0.65, 0.7]
    """
    rough = (high - low) / most
    if not rough > sys.float_info.min:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    places = range(first, math.floor(high / step + 1e-9) + 1)
    return [min(high, max(low, float(f"{place * step:.10g}"))) for place in places]


def _draw(plot: Plot) -> Drawing:
    lines = [(entry, thinned(entry.points, MOST_DRAWN)) for entry in plot.lines]
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    across, up = _range(xs, pad=0.0), _range(ys, pad=0.06)
    scale_x = (WIDTH - LEFT - RIGHT) / (across[1] - across[0])
    scale_y = (HEIGHT - TOP - BOTTOM) / (up[1] - up[0])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (x - across[0]) * scale_x, 1),
            round(HEIGHT - BOTTOM - (y - up[0]) * scale_y, 1),
        )

    strokes = []
    for entry, points in lines:
        corners = [place(x, y) for x, y in points]
        strokes.append(
            Stroke(
                tone=entry.tone,
                corners=" ".join(f"{x:g},{y:g}" for x, y in corners),
                dots=tuple(corners) if len(corners) <= DOTS_UP_TO and entry.dots else (),
            )
        )
    return Drawing(
        strokes=tuple(strokes),
        x_ticks=_ticks(across, place=lambda x: place(x, up[0])[0], most=5, form=plot.x_form)
        if xs
        else (),
        y_ticks=_ticks(up, place=lambda y: place(across[0], y)[1], most=3, form=plot.form)
        if ys
        else (),
        label=_sentence(plot),
    )


def _ticks(
    ends: tuple[float, float], *, place: Callable[[float], float], most: int, form: Form
) -> tuple[Tick, ...]:
    return tuple(
        Tick(at=place(value), text=written(value, form))
        for value in ticks_between(*ends, most=most)
    )


def _range(values: Sequence[float], *, pad: float) -> tuple[float, float]:
    """The range of an axis, never empty."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    largest = max(abs(low), abs(high))
    if high - low > 1e-9 * largest and largest > _NOISE:
        room = (high - low) * pad
    else:
        room = largest * 0.05 if largest > _NOISE else 0.5
    return low - room, high + room


def _sentence(plot: Plot) -> str:
    parts = [
        i18n.gettext("%(name)s %(value)s")
        % {"name": entry.label, "value": written(entry.value, plot.form)}
        for entry in plot.lines
        if entry.points
    ]
    if not parts:
        return i18n.gettext("%(title)s: no value yet.") % {"title": plot.title}
    return i18n.gettext("%(title)s: last %(values)s.") % {
        "title": plot.title,
        "values": i18n.gettext("; ").join(parts),
    }
