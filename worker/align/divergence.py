"""How far the policy is from the reference: in token distributions and in SAE features.

As in ``logps``, a mask marks *rows*: positions whose output predicts a response token. The same
rows carry the log-probabilities, the KL and the pooled features, so that all three speak of the
states that wrote the answer; the last response token, which predicts nothing, is left out.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.domain.alignment import IndexSet
from core.errors import Invalid
from worker.align.logps import (
    CHUNK_ROWS,
    refuse_second_derivative,
    row_chunks,
    sum_rows,
    working_dtype,
)
from worker.align.pooling import FeatureEncoder, pool_features, pool_selected, top_k_mask
from worker.align.unembedding import Unembedding


class KlForm(StrEnum):
    """What the backward pass of ``seq_kl`` keeps; value and gradient are the same."""

    NAIVE = "naive"  # what autograd keeps: about two tensors of rows × vocab
    DIFFERENCE = "difference"  # p − p_ref once, so no second derivative: one of rows × vocab
    RECOMPUTE = "recompute"  # nothing but the given logits; computed again by chunks


def seq_kl(
    *,
    policy_logits: Float[Tensor, "batch pos vocab"],
    reference_logits: Float[Tensor, "batch pos vocab"],
    mask: Bool[Tensor, "batch pos"],
    form: KlForm = KlForm.RECOMPUTE,
    chunk_rows: int = CHUNK_ROWS,
) -> Float[Tensor, " batch"]:
    """Forward KL to the reference, summed over the rows of each sequence, in nats, ≥ 0.

    S = Σ_rows Σ_v p_ref(v) (log p_ref(v) − log p(v)); not length-normalised. Both sides come
    from log_softmax, so a probability that underflows costs nothing: 0 · (−∞) never arises.
    The reference gets no gradient.
    """
    reference_logits = reference_logits.detach()
    match form:
        case KlForm.NAIVE:
            rows = _kl_of_rows(policy_logits[mask], reference_logits[mask])
        case KlForm.DIFFERENCE:
            rows = _DifferenceKl.apply(policy_logits[mask], reference_logits[mask])  # type: ignore[no-untyped-call]
        case KlForm.RECOMPUTE:
            rows = _RecomputedKl.apply(policy_logits, reference_logits, mask, chunk_rows)  # type: ignore[no-untyped-call]
        case _:
            assert_never(form)
    return sum_rows(rows, mask)


def seq_kl_from_hidden(
    *,
    policy_hidden: Float[Tensor, "batch pos d_in"],
    policy_head: Unembedding,
    reference_hidden: Float[Tensor, "batch pos d_in"],
    reference_head: Unembedding,
    mask: Bool[Tensor, "batch pos"],
    chunk_rows: int = CHUNK_ROWS,
) -> Float[Tensor, " batch"]:
    """``seq_kl`` from final hidden states; logits of either model exist only by chunk."""
    policy, reference = policy_hidden[mask], reference_hidden[mask].detach()
    parts = [
        _HeadKl.apply(  # type: ignore[no-untyped-call]
            policy[i],
            policy_head.weight,
            policy_head.bias,
            reference[i],
            policy_head,
            reference_head,
        )
        for i in row_chunks(len(policy), chunk_rows)
    ]
    empty = policy.reshape(-1)[:0].to(working_dtype(policy.dtype))
    return sum_rows(torch.cat(parts) if parts else empty, mask)


def _kl_of_rows(
    policy: Float[Tensor, "row vocab"], reference: Float[Tensor, "row vocab"]
) -> Float[Tensor, " row"]:
    dtype = working_dtype(policy.dtype)
    logp = torch.log_softmax(policy.to(dtype), dim=-1)
    reference_logp = torch.log_softmax(reference.to(dtype), dim=-1)
    p_ref = reference_logp.exp()
    # A token that the reference forbids (logit −∞) contributes nothing.
    return (p_ref * (reference_logp - logp).masked_fill(p_ref == 0, 0.0)).sum(-1)


def _kl_and_difference(
    policy: Float[Tensor, "row vocab"], reference: Float[Tensor, "row vocab"]
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row vocab"]]:
    """KL of each row, and p − p_ref, its gradient by the policy's logits."""
    dtype = working_dtype(policy.dtype)
    logp = torch.log_softmax(policy.to(dtype), dim=-1)
    reference_logp = torch.log_softmax(reference.to(dtype), dim=-1)
    p_ref = reference_logp.exp()
    gap = reference_logp.sub_(logp).masked_fill_(p_ref == 0, 0.0)
    kl = torch.einsum("rv,rv->r", p_ref, gap)
    return kl, logp.exp_().sub_(p_ref)


class _DifferenceKl(torch.autograd.Function):
    """KL of each row; keeps p − p_ref, which is its gradient."""

    @staticmethod
    def forward(
        ctx: Any, policy: Float[Tensor, "row vocab"], reference: Float[Tensor, "row vocab"]
    ) -> Float[Tensor, " row"]:
        kl, difference = _kl_and_difference(policy, reference)
        ctx.save_for_backward(difference)
        return kl

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " row"]) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        (difference,) = ctx.saved_tensors
        return difference * grad[:, None], None


class _RecomputedKl(torch.autograd.Function):
    """KL of each row; computes p − p_ref again, chunk by chunk, in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        policy: Float[Tensor, "batch pos vocab"],
        reference: Float[Tensor, "batch pos vocab"],
        mask: Bool[Tensor, "batch pos"],
        chunk_rows: int,
    ) -> Float[Tensor, " row"]:
        ctx.save_for_backward(policy, reference, mask)
        ctx.chunk_rows = chunk_rows
        sequence, row = mask.nonzero(as_tuple=True)
        kl = policy.new_zeros(len(row), dtype=working_dtype(policy.dtype))
        for i in row_chunks(len(row), chunk_rows):
            at = (sequence[i], row[i])
            kl[i] = _kl_of_rows(policy[at], reference[at])
        return kl

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " row"]) -> tuple[Tensor | None, ...]:
        policy, reference, mask = ctx.saved_tensors
        sequence, row = mask.nonzero(as_tuple=True)
        result = torch.zeros_like(policy)
        for i in row_chunks(len(row), ctx.chunk_rows):
            at = (sequence[i], row[i])
            dtype = working_dtype(policy.dtype)
            # Nothing in place: the Hessian, diag(p) − p pᵀ, is found by differentiating this.
            difference = policy[at].to(dtype).softmax(-1) - reference[at].to(dtype).softmax(-1)
            result[at] = (difference * grad[i, None]).to(policy.dtype)
        return result, None, None, None


class _HeadKl(torch.autograd.Function):
    """KL of a chunk of rows from hidden states; both heads run again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        policy: Float[Tensor, "row d_in"],
        _weight: Float[Tensor, "vocab d_in"],
        _bias: Float[Tensor, " vocab"] | None,
        reference: Float[Tensor, "row d_in"],
        policy_head: Unembedding,
        reference_head: Unembedding,
    ) -> Float[Tensor, " row"]:
        ctx.save_for_backward(policy, reference)
        ctx.heads = (policy_head, reference_head)
        return _kl_of_rows(policy_head.logits(policy), reference_head.logits(reference))

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " row"]) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        policy, reference = ctx.saved_tensors
        policy_head, reference_head = ctx.heads
        logits = policy_head.logits(policy)
        slope = policy_head.slope(logits)
        _, difference = _kl_and_difference(logits, reference_head.logits(reference))
        needs = ctx.needs_input_grad
        grads = policy_head.backward(difference.mul_(grad[:, None]), slope, policy, needs=needs[:3])
        return *grads, None, None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDivergence:
    """The divergence of each response, with what it was made of.

    Attributes:
        values: D ≥ 0, differentiable by the hidden states.
        policy_means: pooled activations of the policy, all features, no gradient.
        selected: I_k, the features that entered the sum.
    """

    values: Float[Tensor, " batch"]
    policy_means: Float[Tensor, "batch d_sae"]
    selected: Bool[Tensor, "batch d_sae"]


def feature_divergence(
    *,
    hidden: Float[Tensor, "batch pos d_in"],
    mask: Bool[Tensor, "batch pos"],
    reference_means: Float[Tensor, "batch d_sae"],
    encoder: FeatureEncoder,
    k: int,
    weights: Float[Tensor, " d_sae"] | None = None,
    held: Bool[Tensor, " d_sae"] | None = None,
    index_set: IndexSet = IndexSet.UNION,
) -> FeatureDivergence:
    """Squared drift of the strongest pooled features from the reference.

    D = (1/k) Σ_{i ∈ I_k} w_i (c̄_i − c̄_ref,i)²              (arXiv 2411.07618, eq. 10, for w = 1)

    Two passes: I_k is selected without gradient from all features, then only its columns are
    encoded again with gradient. I_k is a constant of the loss, so the gradient is the one-pass
    one. Equal activations rank by index, so I_k never depends on the machine.

    Args:
        hidden: the policy's states at the SAE's hook point, in the SAE's input scaling.
        mask: rows that count; pooled by their mean, so padding never matters.
        reference_means: pooled activations of the reference, all features, exact.
        encoder: the frozen SAE encoder.
        k: size of each top-k set and the normaliser, in [1, d_sae].
        weights: w of each feature, ≥ 0; none means 1 for all, the paper's loss.
        held: features that enter I_k whatever their rank; none means no such feature.
        index_set: UNION by the paper, POLICY for comparison with its released code.
    """
    if not 1 <= k <= encoder.d_sae:
        raise Invalid(f"k = {k} is outside [1, {encoder.d_sae}].", hint="Choose a smaller k.")
    reference_means = reference_means.detach()
    pooled = pool_features(hidden=hidden, mask=mask, encoder=encoder)
    selected = top_k_mask(pooled.means, k)
    if index_set is IndexSet.UNION:
        selected |= top_k_mask(reference_means, k)
    if held is not None:
        selected |= held
    drifting = pool_selected(
        hidden=hidden, mask=mask, encoder=encoder, selected=selected, winners=pooled.winners
    )
    values = [
        _squared_drift(means, reference[columns], None if weights is None else weights[columns]) / k
        for means, reference, columns in zip(drifting, reference_means, selected, strict=True)
    ]
    return FeatureDivergence(
        values=torch.stack(values), policy_means=pooled.means, selected=selected
    )


def _squared_drift(
    means: Float[Tensor, " feature"],
    reference: Float[Tensor, " feature"],
    weights: Float[Tensor, " feature"] | None,
) -> Float[Tensor, ""]:
    squared = (means - reference) ** 2
    return (squared if weights is None else weights * squared).sum()
