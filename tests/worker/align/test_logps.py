"""Log-probabilities of responses: shift, padding, chunks and the head's recomputed gradient."""

import pytest
import torch
from torch import Tensor

from tests.support.tiny_models import tiny_gemma2
from worker.align.logps import (
    Targets,
    next_token_targets,
    response_logps,
    response_logps_from_hidden,
)
from worker.align.unembedding import Unembedding

F64 = torch.float64


def random_rows(*shape: int, seed: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


@pytest.fixture
def targets() -> Targets:
    labels = torch.tensor([[5, 6, 7, 8, 0, 0], [0, 0, 3, 4, 5, 6]])
    mask = torch.tensor([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    return next_token_targets(labels, mask)


def test_labels_move_onto_the_rows_that_predict_them(targets):
    assert targets.ids.tolist() == [[0, 7, 8, 0, 0, 0], [0, 0, 4, 5, 6, 0]]
    assert targets.mask.tolist() == (targets.ids > 0).tolist()


def test_a_response_token_at_position_0_has_no_row():
    mask = torch.tensor([[True, True]])
    assert next_token_targets(torch.tensor([[4, 5]]), mask).mask.tolist() == [[True, False]]


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_logps_are_those_of_a_plain_log_softmax(targets, chunk_rows):
    logits = random_rows(2, 6, 9, seed=1).requires_grad_()
    got = response_logps(logits=logits, targets=targets, chunk_rows=chunk_rows)
    plain = logits.log_softmax(-1).gather(2, targets.ids[..., None])[..., 0] * targets.mask
    torch.testing.assert_close(got.per_token, plain, rtol=0, atol=1e-14)
    torch.testing.assert_close(got.summed, plain.sum(1), rtol=0, atol=1e-14)
    assert got.lengths.tolist() == [2, 3]
    (gradient,) = torch.autograd.grad(got.summed @ torch.tensor([1.0, -2.0], dtype=F64), logits)
    (expected,) = torch.autograd.grad(plain.sum(1) @ torch.tensor([1.0, -2.0], dtype=F64), logits)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_head_s_gradients_are_autograd_s(targets, softcap, biased, scale):
    hidden = random_rows(2, 6, 4, seed=2).requires_grad_()
    weight = random_rows(9, 4, seed=3).requires_grad_()
    bias = random_rows(9, seed=4).requires_grad_() if biased else None
    head = Unembedding(weight=weight, bias=bias, softcap=softcap, scale=scale)
    got = response_logps_from_hidden(hidden=hidden, unembedding=head, targets=targets, chunk_rows=2)
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    plain = response_logps(logits=logits, targets=targets)
    torch.testing.assert_close(got.summed, plain.summed, rtol=0, atol=1e-13)
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]
    gradients = torch.autograd.grad((got.summed**2).sum(), leaves)
    expected = torch.autograd.grad((plain.summed**2).sum(), leaves)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12)


def test_a_frozen_head_gets_no_gradient(targets):
    hidden = random_rows(2, 6, 4, seed=2).requires_grad_()
    head = Unembedding(weight=random_rows(9, 4, seed=3))
    got = response_logps_from_hidden(hidden=hidden, unembedding=head, targets=targets)
    got.summed.sum().backward()
    assert hidden.grad is not None


def test_logits_outside_the_mask_may_be_anything(targets):
    logits = random_rows(2, 6, 9, seed=1)
    junk = logits.clone()
    junk[~targets.mask] = float("nan")
    before = response_logps(logits=logits, targets=targets)
    after = response_logps(logits=junk, targets=targets)
    assert torch.equal(before.per_token, after.per_token)


def test_an_empty_response_sums_to_zero():
    targets = Targets(ids=torch.zeros(1, 3, dtype=torch.int64), mask=torch.zeros(1, 3).bool())
    logits = random_rows(1, 3, 5, seed=0).requires_grad_()
    got = response_logps(logits=logits, targets=targets)
    assert got.summed.tolist() == [0.0]
    assert got.lengths.tolist() == [0]
    got.summed.sum().backward()  # a batch of nothing is a step of nothing, not an error
    assert logits.grad is not None
    assert not logits.grad.any()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[1e4, -1e4, 0.0]]], dtype=torch.float32, requires_grad=True)
    targets = Targets(ids=torch.tensor([[1]]), mask=torch.tensor([[True]]))
    got = response_logps(logits=logits, targets=targets)
    assert got.summed.item() == -2e4
    got.summed.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gemma_s_soft_capped_head_is_that_of_the_model(targets):
    model = tiny_gemma2()
    ids = torch.tensor([[1, 6, 7, 8, 9, 3], [1, 2, 3, 4, 5, 6]])
    output = model(input_ids=ids, output_hidden_states=True)
    head = Unembedding(weight=model.get_output_embeddings().weight, softcap=3.0)
    got = response_logps_from_hidden(
        hidden=output.hidden_states[-1], unembedding=head, targets=targets
    )
    plain = response_logps(logits=output.logits, targets=targets)
    torch.testing.assert_close(got.summed, plain.summed, rtol=0, atol=1e-12)
    assert output.logits.abs().max() > 1.5  # the cap of 3 bends these


def test_bfloat16_states_are_summed_in_float32(targets):
    hidden = random_rows(2, 6, 4, seed=2, dtype=torch.bfloat16)
    head = Unembedding(weight=random_rows(9, 4, seed=3, dtype=torch.float32))
    got = response_logps_from_hidden(hidden=hidden, unembedding=head, targets=targets)
    assert got.summed.dtype == torch.float32
