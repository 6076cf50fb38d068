"""Costs of a run follow their formulas."""

import pytest

from app.services.align.costs import (
    PROCESS_BYTES,
    ModelSizes,
    SaeSizes,
    cache_bytes_a_pair,
    count_steps,
    disk_bytes,
    memory_parts,
)
from core.domain.alignment import AlignSpec, TrainingSpec

SIZES = ModelSizes(d_model=100, n_layers=10, vocab_size=1_000)
P = 12 * 10 * 100**2 + 1_000 * 100
SAE = SaeSizes(sae_id="1-x", d_in=100, d_sae=400, l0=8.0)


def spec(**changes):
    training = {
        "micro_batch_size": 2,
        "gradient_checkpointing": False,
        **changes.pop("training", {}),
    }
    values = {
        "model_id": "m",
        "model": {"kind": "hub", "location": "a/m"},
        "aligned_id": "m2",
        "method": "dpo",
        "dtype": "float32",
        "lengths": {"max_length": 64, "max_prompt_length": 32},
        "training": training,
    }
    return AlignSpec.model_validate({**values, **changes})


def test_a_full_fine_tune_holds_weights_gradients_and_two_moments():
    parts = memory_parts(spec(), SIZES, [SAE])
    assert (parts.weights, parts.gradients, parts.optimizer) == (4 * P, 4 * P, 8 * P)
    assert parts.reference == 0
    assert parts.saes == 4 * 100 * 400
    assert parts.activations == 17 * 4 * 100 * (2 * 2 * 64) * 10
    known = parts.weights + parts.gradients + parts.optimizer + parts.saes + parts.activations
    assert parts.total == known + PROCESS_BYTES


def test_rmsprop_keeps_one_moment_and_bfloat16_a_rounded_copy():
    parts = memory_parts(
        spec(dtype="bfloat16", training={"optimizer": {"name": "rmsprop"}}), SIZES, []
    )
    assert parts.optimizer == 4 * P
    assert parts.weights == 6 * P


def test_checkpointing_keeps_a_stream_a_layer():
    tokens = 2 * 2 * 64
    parts = memory_parts(spec(training={"gradient_checkpointing": True}), SIZES, [])
    assert parts.activations == 4 * 100 * tokens * 10 + 17 * 4 * 100 * tokens


def test_only_tdpo_keeps_the_reference():
    assert memory_parts(spec(method="tdpo2"), SIZES, []).reference == 4 * P
    assert memory_parts(spec(method="simpo"), SIZES, []).reference == 0


def test_adapters_train_few_weights():
    lora = {"rank": 4, "target_modules": ["q_proj", "up_proj"]}
    parts = memory_parts(spec(training={"lora": lora}, dtype="bfloat16"), SIZES, [])
    trained = 4 * (2 + 5) * 100 * 10
    assert parts.gradients == 4 * trained
    assert parts.optimizer == 8 * trained
    assert parts.weights == 2 * P


def test_fsdp_shares_what_ddp_repeats():
    shared = memory_parts(spec(launch={"processes": 4, "strategy": "fsdp"}), SIZES, [])
    repeated = memory_parts(spec(launch={"processes": 4, "strategy": "ddp"}), SIZES, [])
    assert shared.weights * 4 == repeated.weights == 4 * P


def test_short_data_need_less_than_the_limit():
    short = memory_parts(spec(), SIZES, [], longest=16.0)
    assert short.activations * 4 == memory_parts(spec(), SIZES, []).activations
    assert (
        memory_parts(spec(), SIZES, [], longest=999.0).activations
        == memory_parts(spec(), SIZES, []).activations
    )


def test_the_cache_never_holds_more_than_every_feature():
    assert cache_bytes_a_pair([SAE], 10.0) == 8 + 2 * 8 * 80
    assert cache_bytes_a_pair([SAE], 1_000.0) == 8 + 2 * 8 * 400
    assert cache_bytes_a_pair([], 10.0) == 8
    unknown = SaeSizes(sae_id="2-y", d_in=100, d_sae=400, l0=None)
    assert cache_bytes_a_pair([SAE, unknown], 10.0) is None


def test_checkpoints_and_the_model_need_disk():
    settings = spec(training={"keep_checkpoints": 2})
    assert disk_bytes(settings, SIZES) == 3 * 12 * P + 4 * P


@pytest.mark.parametrize(
    ("items", "settings", "steps"),
    [
        (128, {"batch_size": 8, "max_steps": 12}, 12),
        (128, {"batch_size": 8}, 16),
        (129, {"batch_size": 8, "epochs": 2}, 34),
        (3, {"batch_size": 32}, 1),
    ],
)
def test_the_last_partial_batch_is_a_step(items, settings, steps):
    assert count_steps(items, TrainingSpec(**settings)) == steps
