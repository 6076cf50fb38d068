"""A run of several processes is what they left, not how they ended afterwards."""

from pathlib import Path

import pytest

from core.errors import Cancelled, Invalid, SparsightError
from worker.align.outcome import forget_outcome, read_outcome, write_failure, write_result
from worker.align.pipeline import RunResult


def result(folder: Path) -> RunResult:
    return RunResult(
        model_dir=folder / "model",
        steps=6,
        n_train=9,
        n_held_out=3,
        n_refused=0,
        truncation="",
        cache_bytes_per_pair={"logps": 12.0},
    )


def test_a_process_that_aborts_at_its_very_end_takes_no_result_back(tmp_path):
    write_result(result(tmp_path), tmp_path)
    assert read_outcome(tmp_path, code=1) == read_outcome(tmp_path, code=0) == result(tmp_path)


def test_a_failure_is_the_first_processs_own_error(tmp_path):
    write_failure(Invalid("The loss is not finite.", hint="Lower the rate."), tmp_path)
    with pytest.raises(Invalid, match="not finite") as caught:
        read_outcome(tmp_path, code=1)
    assert caught.value.hint == "Lower the rate."


def test_nothing_left_is_a_stop_or_a_death_by_the_code(tmp_path):
    write_result(result(tmp_path), tmp_path)
    forget_outcome(tmp_path)
    with pytest.raises(Cancelled):
        read_outcome(tmp_path, code=0)
    with pytest.raises(SparsightError, match="code -9"):
        read_outcome(tmp_path, code=-9)
