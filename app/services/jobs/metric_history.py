"""Numbers over steps: a table a run, made small enough for a page without losing its extremes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue

MOST_POINTS = 2_000
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTable:
    """Numbers by name over steps that only grow.

    Attributes:
        steps: of the rows, increasing.
        columns: by name one number a row; None where a row has none.
    """

    steps: tuple[float, ...]
    columns: Mapping[str, tuple[float | None, ...]]

    @property
    def n_rows(self) -> int:
        """Rows."""
        return len(self.steps)

    def points(self, name: str) -> tuple[tuple[float, float], ...]:
        """The steps that have this number, with it."""
        values = self.columns.get(name, ())
        pairs = zip(self.steps, values, strict=False)
        return tuple((step, value) for step, value in pairs if value is not None)

    def last(self, name: str) -> float | None:
        """The newest number of a name."""
        values = (v for v in reversed(self.columns.get(name, ())) if v is not None)
        return next(values, None)

    def json(self) -> dict[str, JsonValue]:
        """As the curves of a page read it."""
        columns: dict[str, JsonValue] = {k: list(v) for k, v in self.columns.items()}
        return {"steps": list(self.steps), "columns": columns}


def make_table(
    rows: Iterable[Mapping[str, JsonValue]], *, most: int = MOST_POINTS, step: str = "step"
) -> MetricTable:
    """Rows of numbers as a table of at most so many rows.

    A row whose step is not above the one before is left out. Of more rows than ``most``, runs of
    neighbours become two rows each, with the least and the greatest value of every column in the
    order in which they came; the last row stays as it was.

    >>> make_table([{"step": 1, "loss": 0.5}, {"step": 1, "loss": 9.0}, {"step": 2}]).columns
    {'loss': (0.5, None)}
    """
    kept: list[Mapping[str, JsonValue]] = []
    newest = -np.inf
    for row in rows:
        at = row.get(step)
        if isinstance(at, int | float) and at > newest:
            newest = at
            kept.append(row)
    names = list(dict.fromkeys(name for row in kept for name in row if name != step))
    steps = np.array([row[step] for row in kept], dtype=np.float64)
    values = np.array(
        [[_number(row.get(name)) for name in names] for row in kept], dtype=np.float64
    ).reshape(len(kept), len(names))
    steps, values = _decimate(steps, values, most=most)
    columns = {
        name: tuple(None if np.isnan(v) else _rounded(v) for v in column)
        for name, column in zip(names, values.T.tolist(), strict=True)
    }
    return MetricTable(steps=tuple(_rounded(s) for s in steps.tolist()), columns=columns)


def thinned(points: Sequence[tuple[float, float]], most: int) -> tuple[tuple[float, float], ...]:
    """At most so many points of a line, its extremes among them."""
    table = make_table(({"step": x, "y": y} for x, y in points), most=most)
    return table.points("y")


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _rounded(value: float) -> float:
    """Six digits are more than a curve shows; whole numbers stay whole."""
    return int(value) if value.is_integer() else float(f"{value:.{_DIGITS}g}")


def _decimate(
    steps: Float[np.ndarray, " row"], values: Float[np.ndarray, "row name"], *, most: int
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, "kept name"]]:
    n_rows = len(steps)
    if n_rows <= most:
        return steps, values
    edges = np.linspace(0, n_rows - 1, max(1, (most - 1) // 2) + 1).astype(int)
    kept_steps, kept_values = [], []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        kept_steps += [steps[start], steps[stop - 1]] if stop - start > 1 else [steps[start]]
        kept_values += _extremes(values[start:stop])
    kept_steps.append(steps[-1])
    kept_values.append(values[-1])
    return np.array(kept_steps), np.stack(kept_values)


def _extremes(block: Float[np.ndarray, "row name"]) -> list[Float[np.ndarray, " name"]]:
    """Least and greatest value of every column, the earlier one first."""
    if len(block) == 1:
        return [block[0]]
    seen = ~np.isnan(block)
    low = np.where(seen, block, np.inf).argmin(0)
    high = np.where(seen, block, -np.inf).argmax(0)
    places = np.arange(block.shape[1])
    first, second = block[np.minimum(low, high), places], block[np.maximum(low, high), places]
    alone = low == high
    late = alone & (low >= len(block) / 2)
    return [np.where(late, np.nan, first), np.where(alone & ~late, np.nan, second)]
