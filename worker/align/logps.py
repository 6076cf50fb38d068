"""Log-probabilities of response tokens, from logits or from hidden states and the head.

Everything here works on *rows*: row t of a sequence is the position whose output predicts
``targets[t]``. ``next_token_targets`` is the one place where labels are shifted onto rows. Only
rows inside the mask are ever computed, so prompt and padding cost nothing and cannot leak.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from worker.align.unembedding import Unembedding

CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What each row predicts, and which rows predict a response token.

    Attributes:
        ids: token id that row t predicts; 0 where the mask is False.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLogps:
    """Log-probabilities of the response tokens of each sequence, in nats.

    Attributes:
        per_token: on the row that predicts the token; 0 outside the mask.
        summed: over the response; 0 for an empty response.
        lengths: response tokens.
    """

    per_token: Float[Tensor, "batch pos"]
    summed: Float[Tensor, " batch"]
    lengths: Int[Tensor, " batch"]


def next_token_targets(
    labels: Int[Tensor, "batch pos"], response_mask: Bool[Tensor, "batch pos"]
) -> Targets:
    """Labels moved one position to the left, onto the rows that predict them.

    Args:
        labels: token ids of the sequence; values outside the mask (such as -100) are not read.
        response_mask: True on response *tokens*. A response token at position 0 has no row that
            predicts it and does not count.
    """
    ids = torch.zeros_like(labels)
    mask = torch.zeros_like(response_mask)
    mask[:, :-1] = response_mask[:, 1:]
    ids[:, :-1] = labels[:, 1:]
    return Targets(ids=ids.masked_fill(~mask, 0), mask=mask)


def response_logps(
    *,
    logits: Float[Tensor, "batch pos vocab"],
    targets: Targets,
    chunk_rows: int = CHUNK_ROWS,
) -> ResponseLogps:
    """Log-probabilities of the targets under given logits.

    The softmax runs over chunks of response rows, in float32 (float64 for float64 logits), and
    is recomputed in the backward pass: no (batch, pos, vocab) copy is made or kept.
    """
    rows = targets.mask.nonzero()
    ids = targets.ids[targets.mask]
    parts = [
        checkpoint(_logps_of_logit_rows, logits, rows[i], ids[i], use_reentrant=False)
        for i in row_chunks(len(ids), chunk_rows)
    ]
    return _collect(parts, targets, like=logits)


def response_logps_from_hidden(
    *,
    hidden: Float[Tensor, "batch pos d_in"],
    unembedding: Unembedding,
    targets: Targets,
    chunk_rows: int = CHUNK_ROWS,
) -> ResponseLogps:
    """Log-probabilities of the targets from final hidden states; logits exist only by chunk.

    Args:
        hidden: states that enter the head, after the final norm.
        unembedding: the head: weight, bias, scale and soft cap of the logits.
        targets: what each row predicts.
        chunk_rows: rows whose logits exist at one time.
    """
    ids = targets.ids[targets.mask]
    rows = hidden[targets.mask]
    parts = [
        _ChunkLogps.apply(rows[i], unembedding.weight, unembedding.bias, ids[i], unembedding)  # type: ignore[no-untyped-call]
        for i in row_chunks(len(ids), chunk_rows)
    ]
    return _collect(parts, targets, like=hidden)


def row_chunks(n_rows: int, size: int) -> list[slice]:
    """Slices of at most ``size`` rows that cover ``n_rows``.

    >>> row_chunks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def sum_rows(
    values: Float[Tensor, " row"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, " batch"]:
    """Sums of row values by the sequence that each row belongs to, in row order."""
    owner = mask.nonzero()[:, 0]
    return values.new_zeros(len(mask)).index_add(0, owner, values)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The format softmaxes run in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def refuse_second_derivative() -> None:
    """Stop a backward pass that is to be differentiated again, where it would be silently wrong.

    Raises:
        RuntimeError: the backward pass builds a graph.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "This form keeps too little for a second derivative; take logits and KlForm.RECOMPUTE."
        )


def _collect(parts: list[Float[Tensor, " _"]], targets: Targets, *, like: Tensor) -> ResponseLogps:
    dtype = working_dtype(like.dtype)
    # Without any row it is still a function of the states, so that it can be differentiated.
    flat = torch.cat(parts) if parts else like.reshape(-1)[:0].to(dtype)
    per_token = flat.new_zeros(targets.mask.shape).masked_scatter(targets.mask, flat)
    return ResponseLogps(
        per_token=per_token,
        summed=sum_rows(flat, targets.mask),
        lengths=targets.mask.sum(dim=1),
    )


def _logps_of_logit_rows(
    logits: Float[Tensor, "batch pos vocab"],
    rows: Int[Tensor, "row 2"],
    ids: Int[Tensor, " row"],
) -> Float[Tensor, " row"]:
    chosen = logits[rows[:, 0], rows[:, 1]].to(working_dtype(logits.dtype))
    picked = chosen.gather(1, ids[:, None])[:, 0]
    return picked - chosen.logsumexp(dim=1)


class _ChunkLogps(torch.autograd.Function):
    """log softmax(head(h))[target] of a chunk of rows; the logits are recomputed for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "row d_in"],
        _weight: Float[Tensor, "vocab d_in"],
        _bias: Float[Tensor, " vocab"] | None,
        ids: Int[Tensor, " row"],
        unembedding: Unembedding,
    ) -> Float[Tensor, " row"]:
        logits = unembedding.logits(rows)
        normaliser = logits.logsumexp(dim=1)
        ctx.save_for_backward(rows, ids, normaliser)
        ctx.unembedding = unembedding
        return logits.gather(1, ids[:, None])[:, 0] - normaliser

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " row"]) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        rows, ids, normaliser = ctx.saved_tensors
        unembedding: Unembedding = ctx.unembedding
        logits = unembedding.logits(rows)
        slope = unembedding.slope(logits)
        # d log p(target) / d logit = onehot − p
        outer = logits.sub_(normaliser[:, None]).exp_().mul_(-grad[:, None])
        outer.scatter_add_(1, ids[:, None], grad[:, None])
        needs = ctx.needs_input_grad
        return *unembedding.backward(outer, slope, rows, needs=needs[:3]), None, None
