"""Numbers of a run: one row a step, in JSON lines first, then as CSV and TensorBoard files.

Names are TRL's: ``loss``, ``rewards/chosen``, ``rewards/rejected``, ``rewards/margins``,
``rewards/accuracies``, ``logps/chosen``, ``logps/rejected``, ``learning_rate``, ``grad_norm``,
``num_tokens``, with ``eval_`` before those of an evaluation. Ours are ``preference_accuracy``
(share of pairs whose chosen answer has the higher mean token log-probability),
``feature_divergence/<sae>/chosen|rejected``, ``seq_kl/chosen|rejected``,
``eval_probe_kl/forward|reverse``, ``tokens_per_second``, ``peak_memory_bytes``.
Rewards are what each loss ranks by, so FPO's and SimPO's are length-normalised.

A step is written once: a resumed run that comes to a written step again leaves it as it is.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from worker.align.storage import disk_errors, save_text

Row = dict[str, float | int]


class MetricFile:
    """The JSON lines of a run; a line that a crash has torn is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = -1
        if path.is_file():
            rows = read_metrics(path)
            self._last = max((int(row["step"]) for row in rows), default=-1)
            save_text("".join(_line(row) for row in rows), path)

    @property
    def last_step(self) -> int:
        """The highest step written; -1 before the first."""
        return self._last

    def add(self, step: int, values: Mapping[str, float]) -> bool:
        """Append a step; False if it was written before."""
        if step <= self._last:
            return False
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line({"step": step, **values}))
        self._last = step
        return True


def read_metrics(path: Path) -> list[Row]:
    """Whole rows of a metric file, in order; a torn last line is left out."""
    return read_from(path, 0)[0]


def read_from(path: Path, offset: int) -> tuple[list[Row], int]:
    """Whole rows after ``offset`` bytes, and where they end."""
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def write_csv(rows: list[Row], path: Path) -> None:
    """Rows as a table whose columns are all names that occur, ``step`` first."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    save_text(text.getvalue(), path)


def write_tensorboard(rows: list[Row], folder: Path) -> None:
    """Rows as one TensorBoard event file, written anew."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with disk_errors(folder):
        writer = SummaryWriter(str(folder))
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, int(row["step"]))
        writer.close()


def _line(row: Mapping[str, float | int]) -> str:
    return json.dumps(row) + "\n"
