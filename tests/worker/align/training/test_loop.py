"""Runs that must be equal are: micro-batches, recomputed layers, stopped and crashed runs."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from core.domain.alignment import Method
from core.errors import Cancelled, Conflict, TrainingDiverged
from tests.support.tiny_runs import (
    Recorder,
    run_tiny,
    sae_entry,
    tiny_loaded,
    tiny_pairs,
    tiny_spec,
)
from worker.align.training.loop import count_steps, deal, items_of_step
from worker.align.training.metrics import read_metrics

CLOCK = {"tokens_per_second", "peak_memory_bytes", "eval_runtime"}
METHODS = list(Method)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def trajectory(folder):
    return [
        {name: value for name, value in row.items() if name not in CLOCK}
        for row in read_metrics(folder / "metrics.jsonl")
    ]


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def assert_same(one, other, *, tolerance: float) -> None:
    """Equal trajectories within a tolerance, and residuals that do not lean to one side."""
    left, right = trajectory(one), trajectory(other)
    assert [row.keys() for row in left] == [row.keys() for row in right]
    for a, b in zip(left, right, strict=True):
        for name, value in a.items():
            assert value == pytest.approx(b[name], rel=tolerance, abs=tolerance), (a["step"], name)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def reference_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_tiny(tiny_spec(), folder)
    return folder


def test_a_run_learns_and_its_first_loss_is_log_2(reference_run):
    rows = trajectory(reference_run)
    assert [row["step"] for row in rows] == list(range(7))
    assert rows[0]["eval_probe_kl/forward"] == pytest.approx(0.0, abs=1e-12)
    assert rows[0]["eval_loss"] == pytest.approx(0.6931471805599453, abs=1e-9)
    assert rows[1]["loss"] == pytest.approx(0.6931471805599453, abs=1e-9)
    assert rows[-1]["loss"] < rows[1]["loss"] - 0.05
    assert rows[-1]["eval_probe_kl/forward"] > 1e-4
    assert rows[-1]["eval_feature_divergence/0-tiny/rejected"] > 0
    assert rows[-1]["rewards/accuracies"] == 1.0


def test_metrics_have_trl_s_names(reference_run):
    row = trajectory(reference_run)[1]
    for name in (
        *("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
        *("logps/chosen", "logps/rejected", "learning_rate", "grad_norm", "num_tokens"),
    ):
        assert name in row
    assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"])


def test_the_features_that_moved_most_are_kept(reference_run):
    moved = json.loads((reference_run / "moved.json").read_text())
    sizes = [max(abs(f["chosen"]), abs(f["rejected"])) for f in moved["features"]]
    assert moved["step"] == 6
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0


@pytest.mark.parametrize("micro", [1, 3])
def test_accumulated_micro_batches_equal_one_batch(reference_run, tmp_path, micro):
    run_tiny(tiny_spec({"micro_batch_size": micro}), tmp_path / "run")
    assert_same(reference_run, tmp_path / "run", tolerance=1e-9)


def test_recomputed_layers_change_nothing(reference_run, tmp_path):
    run_tiny(tiny_spec({"gradient_checkpointing": True}), tmp_path / "run")
    assert_same(reference_run, tmp_path / "run", tolerance=1e-9)


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(reference_run, tmp_path, stop_after):
    spec = tiny_spec()
    with pytest.raises(Cancelled):
        run_tiny(spec, tmp_path / "run", sink=Recorder(stop_after=stop_after))
    assert trajectory(tmp_path / "run")[-1]["step"] == stop_after
    run_tiny(spec, tmp_path / "run")
    assert trajectory(tmp_path / "run") == trajectory(reference_run)
    for name, value in weights(reference_run).items():
        assert torch.equal(value, weights(tmp_path / "run")[name])


def test_a_run_tells_its_evaluations_and_saved_states_once_each(tmp_path):
    spec, first, second = tiny_spec(), Recorder(stop_after=3), Recorder()
    with pytest.raises(Cancelled):
        run_tiny(spec, tmp_path / "run", sink=first)
    run_tiny(spec, tmp_path / "run", sink=second)
    told = [line for line in first.lines + second.lines if re.search(r"[Ss]tep \d", line)]
    accuracy = r"loss [\d.]+ and accuracy [\d.]+ on held-out pairs, KL .* nat a token\."
    assert re.fullmatch(rf"Step 0: {accuracy}", told[0])
    assert told[0].endswith("KL to the reference 0.0 nat a token.")  # rounding, of either sign
    assert re.fullmatch(rf"Step 3: {accuracy}", told[2])
    assert re.fullmatch(rf"Step 6: {accuracy}", told[6])
    assert [line for line in told if accuracy[:5] not in line] == [
        "The state of step 2 is saved.",
        "The state of step 3 is saved.",
        "Going on after step 3 of 6, from its saved state.",
        "The state of step 4 is saved.",
        "The state of step 6 is saved.",
    ]
    assert second.lines[-1] == "The model is written."


class StopsWithin(Recorder):
    """Asks to stop in the middle of a step, once."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self._left = asked

    def stop_requested(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("asked", [5, 9])
def test_a_step_that_is_given_up_half_way_is_done_anew(tmp_path, asked):
    spec = tiny_spec({"micro_batch_size": 1})
    run_tiny(spec, tmp_path / "whole")
    sink = StopsWithin(asked)
    with pytest.raises(Cancelled):
        run_tiny(spec, tmp_path / "cut", sink=sink)
    written = read_metrics(tmp_path / "cut" / "metrics.jsonl")
    assert len(written) < 4
    run_tiny(spec, tmp_path / "cut")
    assert trajectory(tmp_path / "cut") == trajectory(tmp_path / "whole")


def test_a_crash_between_checkpoints_repeats_steps_but_writes_none_twice(reference_run, tmp_path):
    class Crash(Recorder):
        def stop_requested(self) -> bool:
            if self.done == 3:
                raise KeyboardInterrupt
            return False

    spec = tiny_spec()
    with pytest.raises(KeyboardInterrupt):
        run_tiny(spec, tmp_path / "run", sink=Crash())
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run_tiny(spec, tmp_path / "run")
    assert trajectory(tmp_path / "run") == trajectory(reference_run)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    with pytest.raises(Cancelled):
        run_tiny(tiny_spec(), tmp_path / "run", sink=Recorder(stop_after=2))
    with pytest.raises(Conflict, match="other settings"):
        run_tiny(tiny_spec(beta=0.5), tmp_path / "run")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_rmsprop_too(tmp_path, method):
    optimizer = {"name": "rmsprop", "learning_rate": 1e-3, "warmup_steps": 0}
    constraint = (sae_entry(),)
    spec = tiny_spec({"optimizer": optimizer}, method=method, constraint=constraint)
    run_tiny(spec, tmp_path / "run")
    rows = trajectory(tmp_path / "run")
    assert rows[-1]["rewards/margins"] > rows[1]["rewards/margins"]
    assert ("seq_kl/chosen" in rows[1]) == method.value.startswith("tdpo")
    assert "eval_feature_divergence/0-tiny/chosen" in rows[-1]


def test_adapters_train_alone_and_are_merged_in_the_result(tmp_path):
    lora = {"rank": 2, "alpha": 4.0, "target_modules": ["q_proj", "up_proj"]}
    spec = tiny_spec({"lora": lora, "optimizer": {"learning_rate": 0.02, "warmup_steps": 0}})
    run_tiny(spec, tmp_path / "run")
    rows = trajectory(tmp_path / "run")
    assert rows[1]["loss"] == pytest.approx(0.6931471805599453, abs=1e-6)
    assert rows[-1]["loss"] < rows[1]["loss"]
    base = tiny_loaded().model.state_dict()
    changed = {n for n, w in weights(tmp_path / "run").items() if not torch.equal(w, base[n])}
    assert changed == {
        f"model.layers.{layer}.{name}.weight"
        for layer in (0, 1)
        for name in ("self_attn.q_proj", "mlp.up_proj")
    }
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_run_with_adapters_resumes_exactly(tmp_path):
    lora = {"rank": 2, "dropout": 0.2, "target_modules": ["q_proj"]}
    spec = tiny_spec({"lora": lora})
    state = torch.get_rng_state()
    run_tiny(spec, tmp_path / "whole")
    torch.set_rng_state(state)
    with pytest.raises(Cancelled):
        run_tiny(spec, tmp_path / "cut", sink=Recorder(stop_after=3))
    torch.randn(5)
    run_tiny(spec, tmp_path / "cut")
    assert trajectory(tmp_path / "cut") == trajectory(tmp_path / "whole")


def test_a_loss_that_is_not_finite_stops_the_run_with_a_word_on_how_to_mend_it(tmp_path):
    loaded = tiny_loaded()
    spec = tiny_spec({"optimizer": {"learning_rate": 1e200, "warmup_steps": 0}})
    with pytest.raises(TrainingDiverged, match="not finite") as caught:
        run_tiny(spec, tmp_path / "run", loaded=loaded)
    assert "learning rate" in caught.value.hint


def test_an_evaluation_that_is_not_finite_stops_the_run_before_its_last_checkpoint(tmp_path):
    spec = tiny_spec({"optimizer": {"learning_rate": 1e200, "warmup_steps": 0}, "max_steps": 1})
    with pytest.raises(TrainingDiverged, match=r"evaluation is not finite \(step 1\)"):
        run_tiny(spec, tmp_path / "run")
    assert [row["step"] for row in trajectory(tmp_path / "run")] == [0]
    assert not (tmp_path / "run" / "model").exists()


def test_no_held_out_part_means_no_held_out_numbers(tmp_path):
    run_tiny(tiny_spec({"max_steps": 1}), tmp_path / "run", data=tiny_pairs(n_held_out=0))
    assert not any("loss" in name for name in trajectory(tmp_path / "run")[0])


def test_an_epoch_reads_every_item_once_and_keeps_its_last_short_batch():
    spec = tiny_spec({"batch_size": 4, "epochs": 2}).training
    assert count_steps(10, spec) == 6
    for epoch in (0, 1):
        steps = [items_of_step(3 * epoch + place, 10, spec) for place in range(3)]
        assert [len(items) for items in steps] == [4, 4, 2]
        assert sorted(i for items in steps for i in items) == list(range(10))
    assert items_of_step(0, 10, spec) != items_of_step(3, 10, spec)


def test_items_are_dealt_once_to_all_processes():
    for world in (1, 2, 3):
        dealt = [list(deal(range(7), size=2, rank=r, world=world)) for r in range(world)]
        assert len({len(hand) for hand in dealt}) == 1
        counted = [i for hand in dealt for items, counts in hand if counts for i in items]
        assert sorted(counted) == list(range(7))
