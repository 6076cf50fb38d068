"""Folding, calibration and sinks: the stored weights equal the trained SAE."""

import numpy as np
import pytest
import torch
from sae_lens import SAE

from worker.sae_training.activation_cache import ActivationCache
from worker.sae_training.inference_weights import (
    add_sink_feature,
    calibrate_threshold,
    fold,
    save_weights,
)
from worker.sae_training.metrics import reconstruction_metrics
from worker.sae_training.sinks import find_sinks, flatten_sink, is_sink
from worker.sae_training.trainer import TrainingPlan, train_sae

D_IN, D_SAE, K = 16, 64, 4.0


def made_up_rows(*, n_sinks, n_rows=6_000, seed=0):
    """Sparse sums of 48 directions about a mean, and a few huge rows along one axis."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(48, D_IN, generator=generator)
    weights = torch.rand(n_rows, 48, generator=generator)
    chosen = torch.rand(n_rows, 48, generator=generator) < 0.06
    rows = (weights * chosen) @ directions + 0.5
    rows[:n_sinks] += 300.0 * torch.nn.functional.one_hot(torch.tensor(3), D_IN)
    return rows


def cache_of(rows):
    bits = rows.bfloat16().view(torch.uint16).numpy()
    return ActivationCache(hook_name="blocks.0.hook_resid_post", rows=bits)


def plan(**changes):
    defaults = {
        "d_sae": D_SAE,
        "k": K,
        "epochs": 12.0,
        "batch_tokens": 256,
        "learning_rate": 3e-3,
        "dead_after_tokens": 4_000,
        "checkpoint_steps": 50,
    }
    return TrainingPlan(**(defaults | changes))


@pytest.fixture(scope="module")
def rows():
    return made_up_rows(n_sinks=30)


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    return train_sae(cache_of(rows), plan(), folder=tmp_path_factory.mktemp("sae"))


def test_sinks_are_found_and_flattened(rows):
    sink = find_sinks(rows)
    assert sink is not None
    assert int(is_sink(sink, rows).sum()) == 30
    assert abs(float(sink.direction[3])) > 0.99
    flat = flatten_sink(sink, rows)
    torch.testing.assert_close(
        flat @ sink.direction, torch.full((6_000,), sink.centre), atol=1e-3, rtol=0
    )
    assert find_sinks(made_up_rows(n_sinks=0)) is None


def test_folded_weights_equal_the_trained_sae(rows, trained):
    weights = fold(trained)
    x = rows[100:200]
    scaled = x * trained.scale
    with torch.no_grad():
        centred = trained.sae.process_sae_in(scaled)
        pre = (centred @ trained.sae.W_enc + trained.sae.b_enc) * trained.sae.W_dec.norm(dim=-1)
        acts = pre * (pre > float(trained.sae.topk_threshold))
        recon = trained.sae.decode(acts)
    torch.testing.assert_close(weights.encode(x) * trained.scale, acts, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        weights.decode(weights.encode(x)) * trained.scale, recon, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(weights.W_dec.norm(dim=-1), torch.ones(D_SAE))


def test_training_explains_the_data_at_the_wanted_sparsity(rows, trained):
    ordinary = rows[30:]
    weights = calibrate_threshold(fold(trained), ordinary, k=K)
    metrics = reconstruction_metrics(weights, cache_of(ordinary), sink=None)
    assert metrics.l0 == pytest.approx(K, rel=0.01)
    assert metrics.explained_variance > 0.7
    assert metrics.dead_share < 0.2


def test_trained_features_are_blind_to_sinks_and_one_feature_sees_only_them(rows, trained):
    ordinary = rows[30:]
    weights = calibrate_threshold(fold(trained), ordinary, k=K)
    before = reconstruction_metrics(weights, cache_of(rows), sink=trained.sink)
    counts = (weights.encode(ordinary) > 0).sum(0)
    weights, feature = add_sink_feature(weights, trained.sink, counts)
    acts = weights.encode(rows)
    assert feature is not None
    assert (acts[:, feature] > 0).nonzero().flatten().tolist() == list(range(30))
    assert (acts[:30] > 0).sum(1).float().mean() < 3 * K
    after = reconstruction_metrics(weights, cache_of(rows), sink=trained.sink)
    assert before.explained_variance_with_sinks < 0.1
    assert after.explained_variance_with_sinks > 0.9
    assert after.sink_share == pytest.approx(30 / 6_000)


def test_sae_lens_reads_the_folder_and_encodes_alike(rows, trained, tmp_path):
    stored = save_weights(
        fold(trained),
        tmp_path,
        model_name="m",
        hook_name="blocks.0.hook_resid_post",
        context_size=8,
    )
    sae = SAE.load_from_disk(str(tmp_path))
    assert sae.cfg.architecture() == "jumprelu"
    assert sae.cfg.normalize_activations == "none"
    assert sae.cfg.metadata.hook_name == "blocks.0.hook_resid_post"
    with torch.no_grad():
        torch.testing.assert_close(
            sae.encode(rows[:50]), stored.encode(rows[:50]), atol=1e-5, rtol=1e-5
        )


class StoppingCache(ActivationCache):
    """A cache whose machine is switched off at the n-th read."""

    reads_left = 30

    def take(self, indices):
        StoppingCache.reads_left -= 1
        if StoppingCache.reads_left < 0:
            raise KeyboardInterrupt
        return super().take(indices)


def test_stopped_training_goes_on_to_the_same_weights(rows, tmp_path):
    cache = cache_of(rows)
    short = plan(epochs=2.0, checkpoint_steps=10)
    whole = train_sae(cache, short, folder=tmp_path / "whole")
    stopping = StoppingCache(hook_name=cache.hook_name, rows=cache.rows)
    with pytest.raises(KeyboardInterrupt):
        train_sae(stopping, short, folder=tmp_path / "parts")
    assert (tmp_path / "parts" / "checkpoint.pt").exists()
    resumed = train_sae(cache, short, folder=tmp_path / "parts")
    assert resumed.n_tokens == whole.n_tokens
    assert resumed.loss == whole.loss
    torch.testing.assert_close(resumed.sae.W_enc, whole.sae.W_enc, atol=0, rtol=0)


def test_order_of_the_rows_depends_on_the_seed_only(rows, tmp_path):
    cache = cache_of(rows)
    torch.manual_seed(1)
    one = train_sae(cache, plan(epochs=1.0), folder=tmp_path / "one")
    np.random.default_rng(5).random()
    torch.manual_seed(2)
    two = train_sae(cache, plan(epochs=1.0), folder=tmp_path / "two")
    other = train_sae(cache, plan(epochs=1.0, seed=1), folder=tmp_path / "other")
    torch.testing.assert_close(one.sae.W_dec, two.sae.W_dec, atol=0, rtol=0)
    assert not torch.equal(one.sae.W_dec, other.sae.W_dec)
