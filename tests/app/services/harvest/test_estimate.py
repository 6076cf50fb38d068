"""Estimates follow their formulas, and never guess what is not known."""

import pytest

from app.services.harvest.estimate import (
    ASSUMED_SPEED_A_CORE,
    Basis,
    Machine,
    PastRun,
    SaeWidth,
    Widths,
    estimate_harvest,
)
from app.services.harvest.sizes import widths_of
from core.domain.preset import load_preset

MACHINE = Machine(n_cores=2, memory_bytes=8 * 2**30, disk_bytes=100 * 2**30)
SAES = (SaeWidth(d_in=10, d_sae=100), SaeWidth(d_in=10, d_sae=50))
WIDTHS = Widths(d_model=10, n_layers_run=2, weight_bytes=1_000, saes=SAES)
SPEC = load_preset("gemma-2-2b").model_copy(update={"context_size": 128})
A_TOKEN = 2 * 12 * 2 * 10**2 + 2 * 10 * 100 + 2 * 10 * 50


def test_operations_are_those_of_the_layers_run_and_the_saes():
    assert WIDTHS.operations_a_token == A_TOKEN


def test_without_an_earlier_harvest_the_speed_is_assumed_and_said_to_be():
    found = estimate_harvest(SPEC, widths=WIDTHS, machine=MACHINE, runs=[])
    assert found.tokens_per_second.value == pytest.approx(2 * ASSUMED_SPEED_A_CORE / A_TOKEN)
    assert found.tokens_per_second.basis is Basis.ASSUMED
    assert found.seconds.basis is Basis.ASSUMED
    assert found.n_tokens.value == 24_000_000
    assert found.n_tokens.basis is Basis.GIVEN


def test_earlier_harvests_tell_the_speed_whatever_their_size():
    run = PastRun(n_tokens=1_000, operations_a_token=2 * A_TOKEN, seconds=4)
    found = estimate_harvest(SPEC, widths=WIDTHS, machine=MACHINE, runs=[run])
    assert found.tokens_per_second.value == pytest.approx(500)
    assert found.seconds.value == pytest.approx(24_000_000 / 500)
    assert found.seconds.basis is Basis.MEASURED


def test_one_slow_run_does_not_decide():
    runs = [PastRun(n_tokens=1_000, operations_a_token=A_TOKEN, seconds=s) for s in (1, 1, 100)]
    found = estimate_harvest(SPEC, widths=WIDTHS, machine=MACHINE, runs=runs)
    assert found.tokens_per_second.value == pytest.approx(1_000)


def test_an_accelerator_that_never_ran_has_no_known_speed():
    spec = SPEC.model_copy(update={"device": "cuda"})
    found = estimate_harvest(spec, widths=WIDTHS, machine=MACHINE, runs=[])
    assert found.seconds.value is None
    assert found.seconds.basis is Basis.UNKNOWN


def test_sizes_that_nothing_tells_stay_unknown():
    saes = (SaeWidth(d_in=10, d_sae=None),)
    widths = Widths(d_model=None, n_layers_run=None, weight_bytes=None, saes=saes)
    found = estimate_harvest(SPEC, widths=widths, machine=MACHINE, runs=[])
    quantities = (found.n_features, found.seconds, found.memory_bytes, found.disk_bytes)
    assert all(quantity.basis is Basis.UNKNOWN for quantity in quantities)
    assert not found.memory_short
    assert not found.disk_short


def test_memory_and_disk_follow_the_formulas():
    found = estimate_harvest(SPEC, widths=WIDTHS, machine=MACHINE, runs=[])
    block = 4 * 128 * SPEC.tile_contexts * SPEC.batch_tiles * 100
    state = (8 * (20 + 100) + 256) * 150
    assert found.memory_bytes.value == 1_000 + 8 * 10 * 150 + block + state
    kept = 20 + 4 * 6
    contexts = 150 * kept + 128
    assert found.disk_bytes.value == 150 * (300 + 80 * kept) + contexts * 4 * 128


def test_a_machine_that_is_too_small_is_told():
    small = Machine(n_cores=1, memory_bytes=10, disk_bytes=10)
    found = estimate_harvest(SPEC, widths=WIDTHS, machine=small, runs=[])
    assert found.memory_short
    assert found.disk_short


def test_a_local_text_tells_its_tokens(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("x" * 4_000)
    corpus = {"kind": "file", "path": str(text)}
    spec = SPEC.model_validate(SPEC.model_dump() | {"corpus": corpus})
    found = estimate_harvest(spec, widths=WIDTHS, machine=MACHINE, runs=[])
    assert (found.n_tokens.value, found.n_tokens.basis) == (1_000, Basis.FILES)


def test_a_hub_model_never_seen_has_layers_by_the_names_of_its_saes():
    widths = widths_of(SPEC, None)
    assert widths.n_layers_run == 26
    assert widths.d_model is None
    assert widths.saes == (SaeWidth(d_in=None, d_sae=16_384),) * 26
    found = estimate_harvest(SPEC, widths=widths, machine=MACHINE, runs=[])
    assert found.n_features.value == 26 * 16_384
    assert found.disk_bytes.value is not None
    assert found.seconds.value is None
