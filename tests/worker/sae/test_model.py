"""Encoding and decoding equal sae-lens's, for every architecture and normalisation."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from core.domain.sae import SaeKind, SaeSource
from core.errors import Invalid
from tests.support.tiny_saes import (
    D_IN,
    D_SAE,
    random_batch_topk,
    random_sae_lens,
    write_params_npz,
)
from worker.sae.activations import JumpRelu, Relu, TopK, activate
from worker.sae.load import load_sae
from worker.sae.model import SparseAutoencoder

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "standard": {},
    "jumprelu": {},
    "topk": {"k": 7},
    "topk-rescaled": {"k": 7, "rescale_acts_by_decoder_norm": True},
    "gated": {},
}
NORMALIZATIONS = ("none", "constant_norm_rescale", "layer_norm")
EXPECTED_NAMES = {"standard": "relu", "topk-rescaled": "topk"}


def _rows(n: int = 64, *, scale: float = 3.0, seed: int = 0) -> Float[Tensor, "token d_in"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, D_IN), generator=generator) * scale + 1.0


def _load(folder: Path) -> SparseAutoencoder:
    source = SaeSource(kind=SaeKind.FOLDER, location=str(folder))
    return load_sae(source, device="cpu", cache_dir=folder / "cache")


def _saved(name: str, tmp_path: Path, **settings: Any) -> tuple[Any, SparseAutoencoder]:
    architecture = name.partition("-")[0]
    theirs = random_sae_lens(architecture, **ARCHITECTURES[name], **settings)
    theirs.save_model(tmp_path)
    return theirs, _load(tmp_path)


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encode_and_decode_equal_sae_lens(name, normalization, apply_b_dec, tmp_path):
    theirs, ours = _saved(
        name, tmp_path, normalize_activations=normalization, apply_b_dec_to_input=apply_b_dec
    )
    x = _rows()
    with torch.no_grad():
        expected = theirs.encode(x)
        decoded = theirs.decode(expected)
    assert ours.info.architecture == EXPECTED_NAMES.get(name, name)
    assert 0 < float((expected > 0).float().mean()) < 1
    torch.testing.assert_close(ours.encode(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.decode(expected, inputs=x), decoded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rescaled", [True, False])
def test_batch_topk_equals_its_inference_form_in_sae_lens(rescaled, tmp_path):
    from sae_lens import SAE

    training = random_batch_topk(rescale_acts_by_decoder_norm=rescaled)
    training.save_inference_model(tmp_path / "inference")
    training.save_model(tmp_path / "training")
    theirs = SAE.load_from_disk(tmp_path / "inference")
    for name in ("inference", "training"):
        ours = _load(tmp_path / name)
        with torch.no_grad():
            expected = theirs.encode(_rows())
        torch.testing.assert_close(ours.encode(_rows()), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            ours.decode(expected), theirs.decode(expected).detach(), rtol=1e-5, atol=1e-5
        )
    assert ours.info.architecture == "batchtopk"


def test_gemma_scope_weights_equal_the_formula_in_numpy(tmp_path):
    arrays = write_params_npz(tmp_path / "layer_3" / "width_16k" / "params.npz")
    source = SaeSource(kind=SaeKind.NPZ, location=str(tmp_path / "layer_3" / "width_16k"))
    sae = load_sae(source, device="cpu", cache_dir=tmp_path)
    x = _rows().numpy().astype("f8")
    pre = x @ arrays["W_enc"].astype("f8") + arrays["b_enc"]
    expected = np.maximum(pre, 0) * (pre > arrays["threshold"])
    acts = sae.encode(torch.from_numpy(x).float())
    np.testing.assert_allclose(acts.numpy(), expected, rtol=1e-5, atol=1e-5)
    recon = expected @ arrays["W_dec"].astype("f8") + arrays["b_dec"]
    np.testing.assert_allclose(sae.decode(acts).numpy(), recon, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_columns_are_those_of_the_whole(name, tmp_path):
    _, sae = _saved(name, tmp_path)
    columns = torch.tensor([5, 0, 47, 11])
    whole = sae.encode(_rows())
    torch.testing.assert_close(sae.encode_columns(_rows(), columns), whole[:, columns])
    chosen = torch.zeros(D_SAE, dtype=torch.bool)
    chosen[columns] = True
    torch.testing.assert_close(sae.encode_columns(_rows(), chosen), whole[:, chosen])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoding_changes_neither_input_nor_weights(name, tmp_path):
    _, sae = _saved(name, tmp_path, normalize_activations="layer_norm")
    x = _rows()
    before = x.clone(), sae.W_enc.clone(), sae.b_enc.clone()
    first = sae.encode(x)
    sae.encode(_rows(5, seed=1))
    assert torch.equal(sae.encode(x), first)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, sae.W_enc, sae.b_enc), strict=True))


def test_bfloat16_inputs_are_encoded_in_float32(tmp_path):
    _, sae = _saved("jumprelu", tmp_path)
    x = _rows().bfloat16()
    assert torch.equal(sae.encode(x), sae.encode(x.float()))
    assert sae.encode(x).dtype == torch.float32


def test_half_precision_weights_are_read_as_float32(tmp_path):
    theirs, ours = _saved("standard", tmp_path, dtype="bfloat16")
    assert ours.W_enc.dtype == torch.float32
    torch.testing.assert_close(ours.W_enc, theirs.W_enc.detach().float())


def test_no_tokens_give_no_activations(tmp_path):
    _, sae = _saved("topk", tmp_path)
    assert sae.encode(_rows(0)).shape == (0, D_SAE)


def test_a_jump_is_strictly_above_its_threshold():
    pre = torch.tensor([[0.5, 0.5000001, -0.1, 0.1, -0.2]])
    acts = activate(pre, JumpRelu(torch.tensor([0.5, 0.5, -0.3, -0.3, -0.1])))
    assert acts.tolist() == [[0.0, pytest.approx(0.5000001), 0.0, pytest.approx(0.1), 0.0]]
    assert not torch.signbit(acts).any()


def test_top_k_keeps_k_and_breaks_ties_as_torch_does():
    pre = torch.tensor([[1.0, 2.0, 2.0, 2.0, -1.0]])
    indices = pre.topk(2, dim=-1, sorted=False).indices
    acts = activate(pre.clone(), TopK(2))
    assert sorted(acts.nonzero()[:, 1].tolist()) == sorted(indices[0].tolist())
    assert activate(torch.tensor([[-1.0, -2.0, 3.0]]), TopK(3)).tolist() == [[0.0, 0.0, 3.0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=20), st.integers(1, 20))
def test_activations_are_never_negative(values, k):
    pre = torch.tensor([values])
    threshold = torch.linspace(-1, 1, len(values))
    for activation in (Relu(), JumpRelu(threshold), TopK(min(k, len(values)))):
        acts = activate(pre.clone(), activation)
        assert bool((acts >= 0).all())
        assert bool(((acts == 0) | (acts == pre)).all())


def test_decoding_a_normalising_sae_needs_its_inputs(tmp_path):
    _, sae = _saved("standard", tmp_path, normalize_activations="layer_norm")
    with pytest.raises(Invalid, match="needs the inputs"):
        sae.decode(sae.encode(_rows()))


def test_equality_holds_at_the_norms_of_attention_sinks(tmp_path):
    theirs, ours = _saved("jumprelu", tmp_path)
    x = _rows(scale=30_000.0)
    with torch.no_grad(), warnings.catch_warnings():
        expected = theirs.encode(x)
    torch.testing.assert_close(ours.encode(x), expected, rtol=1e-5, atol=1e-2)
