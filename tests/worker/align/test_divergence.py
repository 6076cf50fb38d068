"""Sequence KL and feature divergence: forms agree, padding never matters, selection is exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.domain.alignment import IndexSet
from core.errors import Invalid
from worker.align.divergence import (
    KlForm,
    feature_divergence,
    seq_kl,
    seq_kl_from_hidden,
)
from worker.align.pooling import FeatureEncoder, pool_features
from worker.align.unembedding import Unembedding

F64 = torch.float64
MASK = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 1, 0]]).bool()


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def encoder(kind: str, *, d_in: int = 4, d_sae: int = 12) -> FeatureEncoder:
    return FeatureEncoder(
        W_enc=random(d_in, d_sae, seed=10),
        b_enc=random(d_sae, seed=11) * 0.3,
        threshold=random(d_sae, seed=12).abs() * 0.4 if kind == "jumprelu" else None,
        top_k=3 if kind == "topk" else None,
    )


def naive_activations(hidden: Tensor, sae: FeatureEncoder) -> Tensor:
    pre = hidden @ sae.W_enc + sae.b_enc
    gate = pre > 0
    if sae.threshold is not None:
        gate = gate & (pre > sae.threshold)
    if sae.top_k is not None:
        top = torch.zeros_like(gate).scatter(-1, pre.topk(sae.top_k, dim=-1).indices, value=True)
        gate = gate & top
    return pre * gate


def naive_divergence(
    hidden: Tensor, mask: Tensor, reference: Tensor, sae: FeatureEncoder, k: int, weights: Tensor
) -> Tensor:
    """One pass, everything in the graph: the definition written out."""
    acts = naive_activations(hidden, sae) * mask[..., None]
    means = acts.sum(1) / mask.sum(1, keepdim=True)
    chosen = torch.zeros_like(means, dtype=torch.bool)
    for values in (means, reference):
        order = values.detach().argsort(dim=1, descending=True, stable=True)[:, :k]
        chosen.scatter_(1, order, value=True)
    return ((means - reference) ** 2 * chosen * weights).sum(1) / k


@pytest.mark.parametrize("form", KlForm)
def test_a_token_of_no_probability_gives_no_nan(form):
    reference = torch.tensor([[[2000.0, -2000.0, 0.0]]], dtype=torch.float32)
    policy = torch.tensor([[[-2000.0, 0.0, 2000.0]]], requires_grad=True)
    mask = torch.tensor([[True]])
    kl = seq_kl(policy_logits=policy, reference_logits=reference, mask=mask, form=form)
    assert kl.item() == 4000.0
    kl.sum().backward()
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad, torch.tensor([[[-1.0, 0.0, 1.0]]]))


@pytest.mark.parametrize("form", KlForm)
def test_a_forbidden_token_gives_no_nan(form):
    reference = torch.tensor([[[0.0, float("-inf"), 1.0]]])
    policy = torch.tensor([[[1.0, float("-inf"), 0.0]]], requires_grad=True)
    mask = torch.tensor([[True]])
    kl = seq_kl(policy_logits=policy, reference_logits=reference, mask=mask, form=form)
    kl.sum().backward()
    assert torch.isfinite(kl).all()
    assert policy.grad is not None
    assert torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("form", [KlForm.DIFFERENCE, KlForm.RECOMPUTE])
@pytest.mark.parametrize("chunk_rows", [1, 2, 50])
def test_every_form_of_the_kl_has_the_naive_value_and_gradient(form, chunk_rows):
    policy, reference = random(2, 5, 7, seed=1).requires_grad_(), random(2, 5, 7, seed=2)

    def run(form: KlForm) -> tuple[Tensor, Tensor]:
        kl = seq_kl(
            policy_logits=policy,
            reference_logits=reference,
            mask=MASK,
            form=form,
            chunk_rows=chunk_rows,
        )
        return kl, torch.autograd.grad((kl**2).sum(), policy)[0]

    for got, expected in zip(run(form), run(KlForm.NAIVE), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)


def test_the_default_form_of_the_kl_can_be_differentiated_twice():
    policy, reference = random(2, 5, 7, seed=1).requires_grad_(), random(2, 5, 7, seed=2)

    def kl(logits: Tensor) -> Tensor:
        return seq_kl(policy_logits=logits, reference_logits=reference, mask=MASK, chunk_rows=2)

    assert torch.autograd.gradgradcheck(kl, policy)


def test_a_form_that_keeps_too_little_refuses_a_second_derivative():
    policy, reference = random(2, 5, 7, seed=1).requires_grad_(), random(2, 5, 7, seed=2)
    kl = seq_kl(policy_logits=policy, reference_logits=reference, mask=MASK, form=KlForm.DIFFERENCE)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(kl.sum(), policy, create_graph=True)


def test_the_kl_from_hidden_states_is_that_of_the_logits():
    policy, reference = random(2, 5, 4, seed=1).requires_grad_(), random(2, 5, 4, seed=2)
    weights = [random(7, 4, seed=s).requires_grad_() for s in (3, 4)]
    heads = [Unembedding(weight=weight, softcap=2.0) for weight in weights]
    got = seq_kl_from_hidden(
        policy_hidden=policy,
        policy_head=heads[0],
        reference_hidden=reference,
        reference_head=heads[1],
        mask=MASK,
        chunk_rows=2,
    )
    logits = [
        torch.tanh(h @ w.T / 2) * 2 for h, w in zip((policy, reference), weights, strict=True)
    ]
    plain = seq_kl(
        policy_logits=logits[0], reference_logits=logits[1], mask=MASK, form=KlForm.NAIVE
    )
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-13)
    gradients = torch.autograd.grad((got**2).sum(), [policy, weights[0]])
    expected = torch.autograd.grad((plain**2).sum(), [policy, weights[0]])
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_two_passes_have_the_value_and_gradient_of_one(kind, k):
    sae = encoder(kind)
    hidden = random(2, 5, 4, seed=5).requires_grad_()
    reference = pool_features(hidden=random(2, 5, 4, seed=6), mask=MASK, encoder=sae).means
    weights = random(12, seed=7).abs()
    got = feature_divergence(
        hidden=hidden, mask=MASK, reference_means=reference, encoder=sae, k=k, weights=weights
    )
    expected = naive_divergence(hidden, MASK, reference, sae, k, weights)
    torch.testing.assert_close(got.values, expected, rtol=0, atol=1e-13)
    gradient = torch.autograd.grad((got.values**2).sum(), hidden)[0]
    wanted = torch.autograd.grad((expected**2).sum(), hidden)[0]
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-13)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk"])
def test_pooling_is_the_mean_over_the_masked_rows(kind):
    sae = encoder(kind)
    hidden = random(2, 5, 4, seed=5)
    pooled = pool_features(hidden=hidden, mask=MASK, encoder=sae, chunk_rows=2)
    for row, mask, means in zip(hidden, MASK, pooled.means, strict=True):
        torch.testing.assert_close(
            means, naive_activations(row[mask], sae).mean(0), rtol=0, atol=1e-14
        )


@given(left=st.integers(0, 4), right=st.integers(0, 12), junk=st.floats(-50, 50))
@settings(max_examples=25, deadline=None)
def test_padding_never_changes_a_divergence(left, right, junk):
    sae = encoder("jumprelu")
    hidden, logits, reference_logits = (
        random(2, 5, w, seed=s) for w, s in ((4, 5), (7, 1), (7, 2))
    )
    reference = pool_features(hidden=random(2, 5, 4, seed=6), mask=MASK, encoder=sae).means

    def pad(states: Tensor) -> Tensor:
        return torch.nn.functional.pad(states, (0, 0, left, right), value=junk)

    mask = torch.nn.functional.pad(MASK, (left, right), value=False)
    plain = feature_divergence(
        hidden=hidden, mask=MASK, reference_means=reference, encoder=sae, k=3
    )
    padded = feature_divergence(
        hidden=pad(hidden), mask=mask, reference_means=reference, encoder=sae, k=3
    )
    assert torch.equal(plain.values, padded.values)
    kl = seq_kl(policy_logits=logits, reference_logits=reference_logits, mask=MASK)
    kl_padded = seq_kl(policy_logits=pad(logits), reference_logits=pad(reference_logits), mask=mask)
    assert torch.equal(kl, kl_padded)


def test_the_union_differs_from_the_policy_s_own_top_k():
    sae = FeatureEncoder(W_enc=torch.eye(3, dtype=F64), b_enc=torch.zeros(3, dtype=F64))
    hidden = torch.tensor([[[3.0, 0.0, 0.0]]], dtype=F64)
    reference = torch.tensor([[1.0, 2.0, 0.0]], dtype=F64)
    mask = torch.tensor([[True]])
    values = {
        index_set: feature_divergence(
            hidden=hidden,
            mask=mask,
            reference_means=reference,
            encoder=sae,
            k=1,
            index_set=index_set,
        )
        for index_set in IndexSet
    }
    assert values[IndexSet.UNION].values.item() == 4.0 + 4.0  # 1/k, not 1/|I|
    assert values[IndexSet.POLICY].values.item() == 4.0
    assert values[IndexSet.UNION].selected.tolist() == [[True, True, False]]


def test_a_free_feature_costs_nothing_and_a_held_one_counts_at_any_rank():
    sae = FeatureEncoder(W_enc=torch.eye(3, dtype=F64), b_enc=torch.zeros(3, dtype=F64))
    hidden = torch.tensor([[[3.0, 0.0, 0.5]]], dtype=F64)
    reference = torch.tensor([[1.0, 2.0, 0.0]], dtype=F64)
    got = feature_divergence(
        hidden=hidden,
        mask=torch.tensor([[True]]),
        reference_means=reference,
        encoder=sae,
        k=1,
        weights=torch.tensor([0.0, 1.0, 8.0], dtype=F64),
        held=torch.tensor([False, False, True]),
    )
    assert got.values.item() == 0 * 4.0 + 1 * 4.0 + 8 * 0.25


def test_zero_filling_a_top_k_cache_would_be_wrong():
    """The union reads reference values outside the reference's own top k."""
    sae = FeatureEncoder(W_enc=torch.eye(2, dtype=F64), b_enc=torch.zeros(2, dtype=F64))
    hidden = torch.tensor([[[0.0, 1.0]]], dtype=F64)
    mask = torch.tensor([[True]])
    exact, zero_filled = (
        feature_divergence(
            hidden=hidden,
            mask=mask,
            reference_means=torch.tensor([reference], dtype=F64),
            encoder=sae,
            k=1,
        ).values.item()
        for reference in ([1.0, 0.5], [1.0, 0.0])
    )
    assert exact == 1.25
    assert zero_filled == 2.0


def test_pooling_is_blind_to_where_a_feature_fires():
    sae = FeatureEncoder(W_enc=torch.eye(2, dtype=F64), b_enc=torch.zeros(2, dtype=F64))
    policy = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]], dtype=F64)
    mask = torch.ones(1, 2).bool()
    reference = policy.flip(1)
    means = pool_features(hidden=reference, mask=mask, encoder=sae).means
    got = feature_divergence(hidden=policy, mask=mask, reference_means=means, encoder=sae, k=2)
    assert got.values.item() == 0.0
    assert seq_kl(policy_logits=policy, reference_logits=reference, mask=mask).item() > 1.0


@pytest.mark.parametrize("k", [0, 13])
def test_k_outside_the_sae_is_refused(k):
    sae = encoder("relu")
    with pytest.raises(Invalid, match=f"k = {k}"):
        feature_divergence(
            hidden=random(2, 5, 4, seed=5),
            mask=MASK,
            reference_means=torch.zeros(2, 12, dtype=F64),
            encoder=sae,
            k=k,
        )


def test_equal_pre_activations_compete_by_index_in_both_passes():
    sae = FeatureEncoder(
        W_enc=torch.zeros(4, 6, dtype=F64), b_enc=torch.ones(6, dtype=F64), top_k=2
    )
    hidden = random(1, 3, 4, seed=1).requires_grad_()
    found = feature_divergence(
        hidden=hidden,
        mask=torch.ones(1, 3, dtype=torch.bool),
        reference_means=torch.zeros(1, 6, dtype=F64),
        encoder=sae,
        k=6,
    )
    assert found.policy_means.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(found.values, torch.tensor([2 / 6], dtype=F64))


def test_a_reference_that_could_learn_gets_no_gradient():
    reference = random(2, 12, seed=3).abs().requires_grad_()
    hidden = random(2, 5, 4, seed=4).requires_grad_()
    found = feature_divergence(
        hidden=hidden, mask=MASK, reference_means=reference, encoder=encoder("relu"), k=3
    )
    found.values.sum().backward()
    assert reference.grad is None
    assert hidden.grad is not None
