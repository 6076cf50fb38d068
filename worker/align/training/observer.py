"""Who is told of a run: its files first, then the job that it belongs to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from worker.align.storage import save_text
from worker.align.training.evaluation import MovedFeature
from worker.align.training.metrics import MetricFile, read_metrics, write_csv, write_tensorboard

METRICS = "metrics.jsonl"
MOVED = "moved.json"


@runtime_checkable  # tests check arguments by it
class Sink(Protocol):
    """Where a run is watched from: a job, or the parent of several processes."""

    def wrote_step(self) -> None:
        """The metric file has a new row."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Units done so far."""

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """A line of a known kind for the log."""

    def stop_requested(self) -> bool:
        """Whether somebody asked to stop."""


class Observer:
    """Writes a run's metrics, each step once, and tells the sink; silent off the main process."""

    def __init__(self, folder: Path, sink: Sink, *, is_main: bool, tensorboard: bool) -> None:
        self._folder = folder
        self._sink = sink
        self._is_main = is_main
        self._tensorboard = tensorboard
        self._file = MetricFile(folder / METRICS) if is_main else None

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Append a step's row; at evaluations the CSV and TensorBoard files are renewed."""
        if self._file is None or not self._file.add(step, values):
            return
        if any(name.startswith("eval_") for name in values):
            self.write_tables()
            self._tell_evaluation(step, values)
        self._sink.wrote_step()

    def write_tables(self) -> None:
        """The metrics as CSV and TensorBoard files."""
        rows = read_metrics(self._folder / METRICS)
        write_csv(rows, self._folder / "metrics.csv")
        if self._tensorboard:
            write_tensorboard(rows, self._folder / "tensorboard")

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Units done so far."""
        if self._is_main:
            self._sink.progress(done=done, total=total, phase=phase)

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """A line of a known kind for the log."""
        if self._is_main:
            self._sink.tell(kind, **values)

    def _tell_evaluation(self, step: int, values: Mapping[str, float]) -> None:
        short = {name: round(value, 4) + 0.0 for name, value in values.items()}  # no −0.0
        if "eval_loss" not in short:  # nothing is held out
            return
        if {"eval_preference_accuracy", "eval_probe_kl/forward"} <= short.keys():
            self.tell(
                "align_compared",
                step=step,
                loss=short["eval_loss"],
                accuracy=short["eval_preference_accuracy"],
                kl=short["eval_probe_kl/forward"],
            )
        else:
            self.tell("align_evaluated", step=step, loss=short["eval_loss"])

    def moved(self, step: int, features: Sequence[MovedFeature]) -> None:
        """Keep the features that moved most by this step."""
        if self._is_main:
            record = {"step": step, "features": [asdict(feature) for feature in features]}
            save_text(json.dumps(record), self._folder / MOVED)

    def stop_requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._sink.stop_requested()
