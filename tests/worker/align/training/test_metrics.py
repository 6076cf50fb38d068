"""Metric files: each step once, whole after a crash, the same numbers in every format."""

import csv
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.errors import DiskFull
from worker.align.storage import disk_errors, new_folder
from worker.align.training.memory import peak_memory_bytes, saved_for_backward
from worker.align.training.metrics import (
    MetricFile,
    read_from,
    read_metrics,
    write_csv,
    write_tensorboard,
)


def test_a_step_is_written_once(tmp_path):
    file = MetricFile(tmp_path / "m.jsonl")
    assert file.add(0, {"eval_loss": 0.7})
    assert file.add(1, {"loss": 0.6})
    assert not file.add(1, {"loss": 0.5})
    again = MetricFile(tmp_path / "m.jsonl")
    assert again.last_step == 1
    assert not again.add(1, {"loss": 0.5})
    assert again.add(2, {"loss": 0.4})
    assert [row["loss"] for row in read_metrics(tmp_path / "m.jsonl")[1:]] == [0.6, 0.4]


def test_a_torn_line_is_cut_off_and_its_step_written_again(tmp_path):
    path = tmp_path / "m.jsonl"
    MetricFile(path).add(0, {"loss": 0.7})
    whole = path.stat().st_size
    with path.open("a") as file:
        file.write('{"step": 1, "lo')
    rows, end = read_from(path, 0)
    assert (len(rows), end) == (1, whole)
    assert MetricFile(path).add(1, {"loss": 0.6})
    assert len(read_metrics(path)) == 2


def test_the_table_and_the_event_file_hold_the_same_numbers(tmp_path):
    rows = [{"step": 0, "eval_loss": 0.5}, {"step": 1, "loss": 0.25, "rewards/margins": -1.5}]
    write_csv(rows, tmp_path / "m.csv")
    with (tmp_path / "m.csv").open() as file:
        table = list(csv.DictReader(file))
    assert table[1] == {"step": "1", "eval_loss": "", "loss": "0.25", "rewards/margins": "-1.5"}
    for _ in range(2):  # written anew, never twice
        write_tensorboard(rows, tmp_path / "tb")
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("rewards/margins")] == [(1, -1.5)]


def test_a_full_disk_is_told_in_our_words(tmp_path):
    with pytest.raises(DiskFull, match=r"m\.jsonl"), disk_errors(tmp_path / "m.jsonl"):
        raise OSError(28, "No space left on device")
    with pytest.raises(PermissionError), disk_errors(tmp_path / "m.jsonl"):
        raise PermissionError(13, "no")


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_disk_under_torch_s_own_writer_is_told_too(size):
    full = Path("/dev/full")
    with pytest.raises(DiskFull, match="disk is full"), disk_errors(full):
        torch.save({"moments": torch.zeros(size)}, full)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fail() -> None:
        with new_folder(tmp_path / "x") as partial:
            (partial / "a").write_text("1")
            raise KeyError("half")

    with pytest.raises(KeyError, match="half"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_saved_bytes_count_each_storage_once():
    x = torch.randn(100, requires_grad=True)
    with saved_for_backward(leaving_out=(x,)) as saved:
        y = x.exp()  # keeps its result
        (y * y).sum()  # keeps the same storage, twice
    assert saved.total == 400


def test_the_peak_is_of_this_process():
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(64 * 2**20 // 4)
    assert peak_memory_bytes(torch.device("cpu")) >= before
    assert block.sum() > 0
