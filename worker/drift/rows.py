"""Other activations on the same (feature, context) rows as a harvest keeps."""

import numpy as np
from jaxtyping import Float32, Int32, Int64, Shaped

from core.domain.activation import ContextRows
from worker.drift.keeper import Arrays


class RowFiller:
    """Takes in contexts one by one and gives their rows back in the harvest's order.

    Holds the non-zeros of all rows, so about what the harvest's own rows take.
    """

    def __init__(self, rows: ContextRows) -> None:
        self._given = rows
        n_features = len(rows.row_offsets) - 1
        sizes = np.diff(rows.row_offsets)
        self._feature = np.repeat(np.arange(n_features, dtype=np.int64), sizes)
        self._order = np.argsort(rows.context_index, kind="stable")
        numbers, starts = np.unique(rows.context_index[self._order], return_index=True)
        ends = np.append(starts[1:], len(self._order))
        self._places = {
            int(number): slice(int(start), int(end))
            for number, start, end in zip(numbers, starts, ends, strict=True)
        }
        self._row: list[Int64[np.ndarray, " nnz"]] = []
        self._position: list[Int64[np.ndarray, " nnz"]] = []
        self._value: list[Float32[np.ndarray, " nnz"]] = []

    def has(self, number: int) -> bool:
        """Whether a feature keeps this context."""
        return number in self._places

    def add(self, number: int, acts: Float32[np.ndarray, "pos d_sae"]) -> None:
        """Take in a context; activations on positions that do not count are 0."""
        place = self._places.get(number)
        if place is None:
            return
        rows = self._order[place]
        columns = acts[:, self._feature[rows]].T
        which, position = np.nonzero(columns)
        self._row.append(rows[which])
        self._position.append(position)
        self._value.append(columns[which, position])

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything taken in so far."""
        self._row = [np.concatenate([np.zeros(0, np.int64), *self._row])]
        self._position = [np.concatenate([np.zeros(0, np.int64), *self._position])]
        self._value = [np.concatenate([np.zeros(0, np.float32), *self._value])]
        return {"row": self._row[0], "position": self._position[0], "value": self._value[0]}

    def restore(self, state: Arrays) -> None:
        """Go on from a state, in place of what was taken in."""
        self._row, self._position = [state["row"]], [state["position"]]
        self._value = [state["value"]]

    def rows(self, *, by_activation: bool = False) -> ContextRows:
        """The rows with what was taken in.

        Args:
            by_activation: each feature's rows by maximum activation, the silent ones last by
                number, as random contexts are kept; else in the order of the harvest.
        """
        n = len(self._given.context_index)
        row = np.concatenate([np.zeros(0, np.int64), *self._row])
        position = np.concatenate([np.zeros(0, np.int64), *self._position])
        value = np.concatenate([np.zeros(0, np.float32), *self._value])
        place = np.arange(n)
        if by_activation:
            order = self._by_activation(row, value)
            place[order] = np.arange(n)
        else:
            order = place
        sorting = np.lexsort((position, place[row]))
        sizes = np.bincount(place[row], minlength=n)
        return ContextRows(
            row_offsets=self._given.row_offsets,
            context_index=self._given.context_index[order],
            band=self._given.band[order],
            nnz_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]),
            positions=position[sorting].astype(np.uint16),
            values=value[sorting],
        )

    def _by_activation(
        self, row: Int64[np.ndarray, " nnz"], value: Float32[np.ndarray, " nnz"]
    ) -> Int64[np.ndarray, " row"]:
        peaks = np.zeros(len(self._given.context_index), np.float32)
        np.maximum.at(peaks, row, value)
        numbers: Int32[np.ndarray, " row"] = self._given.context_index
        order: Int64[np.ndarray, " row"] = np.lexsort((numbers, -peaks, self._feature))
        return order
