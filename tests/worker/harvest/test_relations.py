"""Neighbours and logit effects, against definitions written out."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tests.support.tiny_models import randomise, tiny_gemma2, tiny_llama
from tests.worker.harvest import dense
from worker.harvest import coactivation as coactivation_room
from worker.harvest import decoder_cosine as cosine_room
from worker.harvest import logit_effect as logit_room
from worker.harvest.coactivation import coactivation
from worker.harvest.decoder_cosine import decoder_cosine
from worker.harvest.final_norm import final_norm, measure_norm, unembedding
from worker.harvest.logit_effect import logit_effect
from worker.harvest.sampled_contexts import SampledActivations, no_activations

D_SAE, SIZE, N_DRAWN = 13, 8, 9


def firing_and_entries(seed: int = 0):
    rng = np.random.default_rng(seed)
    fires = rng.random((N_DRAWN * SIZE, D_SAE)) < np.linspace(0, 0.9, D_SAE)
    fires[:, 5] = fires[:, 6]  # equals, to see ties
    token, feature = np.nonzero(fires)
    order = rng.permutation(len(token))
    token, feature = token[order], feature[order]
    return fires, SampledActivations(
        feature.astype(np.int32),
        (token // SIZE).astype(np.uint16),
        (token % SIZE).astype(np.uint16),
        np.empty(0, np.float32),
    )


@pytest.mark.parametrize(("cells", "meetings"), [(1 << 23, 1 << 22), (40, 7), (1, 1)])
def test_coactivation_is_phi_over_the_sampled_tokens_in_blocks_of_any_size(
    monkeypatch, cells, meetings
):
    monkeypatch.setattr(coactivation_room, "_CELLS", cells)
    monkeypatch.setattr(coactivation_room, "_MEETINGS", meetings)
    fires, entries = firing_and_entries()
    found = coactivation(entries, d_sae=D_SAE, n_tokens=len(fires), k=4, context_size=SIZE)
    for feature in range(D_SAE):
        phi = [dense.phi(fires[:, feature], fires[:, other]) for other in range(D_SAE)]
        both = [int((fires[:, feature] & fires[:, other]).sum()) for other in range(D_SAE)]
        good = [g for g in range(D_SAE) if g != feature and phi[g] > 1e-12 and both[g] >= 3]
        best = sorted(good, key=lambda g: (-round(phi[g], 9), g))[:4]
        pad = [-1] * (4 - len(best))
        assert found.neighbours.index[feature].tolist() == best + pad
        expected = [phi[g] for g in best] + [0.0] * len(pad)
        np.testing.assert_allclose(found.neighbours.value[feature], expected, atol=1e-6)
        assert found.support[feature].tolist() == [both[g] for g in best] + [0] * len(pad)


def test_features_that_never_fire_have_no_coactivation():
    found = coactivation(no_activations(), d_sae=3, n_tokens=0, k=2, context_size=SIZE)
    assert (found.neighbours.index == -1).all()
    assert not found.support.any()


@pytest.mark.parametrize("cells", [1 << 24, 50])
def test_decoder_neighbours_are_the_largest_cosines_and_leave_out_the_feature_itself(
    monkeypatch, cells
):
    monkeypatch.setattr(cosine_room, "_CELLS", cells)
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    rows[7] = rows[3] * 2
    rows[9] = 0
    found = decoder_cosine(torch.from_numpy(rows), 5)
    norm = np.linalg.norm(rows, axis=1)
    cosine = rows @ rows.T / np.maximum(norm[:, None] * norm, 1e-30)
    np.fill_diagonal(cosine, -np.inf)
    for feature in [f for f in range(20) if f != 9]:
        best = np.argsort(-cosine[feature], kind="stable")[:5]
        assert found.index[feature].tolist() == best.tolist()
        np.testing.assert_allclose(found.value[feature], cosine[feature, best], atol=1e-6)
    assert found.index[9].tolist() == [0, 1, 2, 3, 4]
    assert not found.value[9].any()


def test_a_feature_alone_has_no_decoder_neighbour():
    assert decoder_cosine(torch.ones(1, 4), 2).index.tolist() == [[-1, -1]]


def gpt2():
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=97, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    )
    return randomise(model, seed=1, spread=0.3, dtype=torch.float32)


NORMS = {
    "llama multiplies by its weight": (
        lambda: tiny_llama(dtype=torch.bfloat16),
        lambda model: model.model.norm.weight.float(),
        False,
    ),
    "gemma multiplies by one plus its weight": (
        lambda: tiny_gemma2(dtype=torch.bfloat16),
        lambda model: 1 + model.model.norm.weight.float(),
        False,
    ),
    "gpt-2 subtracts the mean": (gpt2, lambda model: model.transformer.ln_f.weight, True),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_final_norm_is_measured_right(name):
    make, gain_of, centres = NORMS[name]
    model = make()
    norm = final_norm(model)
    assert norm.centres is centres
    torch.testing.assert_close(norm.gain, gain_of(model).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("d_in", [2, 3, 17])
def test_norms_without_weight_and_odd_widths_are_measured_too(d_in):
    plain = measure_norm(nn.RMSNorm(d_in, elementwise_affine=False), d_in)
    assert not plain.centres
    torch.testing.assert_close(plain.gain, torch.ones(d_in), rtol=1e-4, atol=1e-4)
    assert measure_norm(nn.LayerNorm(d_in, elementwise_affine=False), d_in).centres


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("chunks", [(16_384, 512), (10, 3)])
def test_the_logit_effect_is_the_folded_row_times_the_unembedding(monkeypatch, name, chunks):
    monkeypatch.setattr(logit_room, "_VOCAB_CHUNK", chunks[0])
    monkeypatch.setattr(logit_room, "_FEATURE_BLOCK", chunks[1])
    make, gain_of, centres = NORMS[name]
    model = make()
    rows_in = torch.randn(11, 16, generator=torch.Generator().manual_seed(0))
    head = unembedding(model)
    found = logit_effect(rows_in, norm=final_norm(model), unembedding=head, k=4)
    rows = rows_in.double().numpy()
    if centres:
        rows = rows - rows.mean(axis=1, keepdims=True)
    logits = (rows * gain_of(model).detach().double().numpy()) @ head.double().numpy().T
    order = np.argsort(-logits, axis=1, kind="stable")
    assert found.top_ids.tolist() == order[:, :4].tolist()
    assert found.bottom_ids.tolist() == order[:, ::-1][:, :4].tolist()
    np.testing.assert_allclose(found.top_values, np.sort(logits)[:, ::-1][:, :4], rtol=1e-3)
    np.testing.assert_allclose(found.bottom_values, np.sort(logits)[:, :4], rtol=1e-3)


def test_equal_logits_come_in_the_order_of_token_ids():
    norm = measure_norm(nn.RMSNorm(4, elementwise_affine=False), 4)
    found = logit_effect(torch.ones(1, 4), norm=norm, unembedding=torch.zeros(6, 4), k=3)
    assert found.top_ids.tolist() == found.bottom_ids.tolist() == [[0, 1, 2]]
