"""Mean-pooled SAE activations of responses: all features without gradient, a few with.

c̄_i = (1/|rows|) Σ_rows act_i(h_row), the mean over a response's rows (arXiv 2411.07618, eq. 10).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_CHUNK_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEncoder:
    """A frozen SAE encoder: act = gate · pre with pre = h W_enc + b_enc.

    ReLU gates pre > 0; JumpReLU pre > threshold ∧ pre > 0; TopK the k largest pre of a row that
    are > 0. No gradient passes through a gate.

    Attributes:
        threshold: JumpReLU's threshold of each feature; None otherwise.
        top_k: TopK's number of active features a row; None otherwise.
    """

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    threshold: Float[Tensor, " d_sae"] | None = None
    top_k: int | None = None

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.W_enc.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Pooled activations of every feature, and what is needed to gate single features again.

    Attributes:
        means: mean activation over the rows; 0 for a response without rows.
        winners: for TopK, each row's features of the k largest pre-activations; None otherwise.
    """

    means: Float[Tensor, "batch d_sae"]
    winners: Int[Tensor, "row k"] | None


@torch.no_grad()
def pool_features(
    *,
    hidden: Float[Tensor, "batch pos d_in"],
    mask: Bool[Tensor, "batch pos"],
    encoder: FeatureEncoder,
    chunk_rows: int = _CHUNK_ROWS,
) -> Pooled:
    """Pooled activations of all features, without gradient, a chunk of rows at a time."""
    owner = mask.nonzero()[:, 0]
    rows = hidden[mask]
    sums = encoder.W_enc.new_zeros(len(mask), encoder.d_sae)
    winners = []
    for start in range(0, len(rows), chunk_rows):
        piece = slice(start, start + chunk_rows)
        pre = torch.addmm(encoder.b_enc, rows[piece].to(sums.dtype), encoder.W_enc)
        gate = _gate(pre, threshold=encoder.threshold)
        if encoder.top_k is not None:
            largest = top_k_mask(pre, min(encoder.top_k, encoder.d_sae))
            winners.append(largest.nonzero()[:, 1].reshape(len(pre), -1))
            gate &= largest
        sums.index_add_(0, owner[piece], pre.mul_(gate))
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return Pooled(
        means=sums / lengths,
        winners=None if encoder.top_k is None else _concatenate(winners, owner, encoder.top_k),
    )


def pool_selected(
    *,
    hidden: Float[Tensor, "batch pos d_in"],
    mask: Bool[Tensor, "batch pos"],
    encoder: FeatureEncoder,
    selected: Bool[Tensor, "batch d_sae"],
    winners: Int[Tensor, "row k"] | None,
) -> list[Float[Tensor, " _"]]:
    """Pooled activations of each response's selected features, in index order, with gradient.

    Only the selected columns are encoded; the backward pass keeps one bit-sized gate for each
    row and selected feature, and reads the frozen encoder again.
    """
    lengths = mask.sum(dim=1).tolist()
    row_parts = torch.split(hidden[mask], lengths)
    won = [None] * len(lengths) if winners is None else torch.split(winners, lengths)
    return [
        _PooledColumns.apply(rows, columns.nonzero()[:, 0], mine, encoder)  # type: ignore[no-untyped-call]
        for rows, columns, mine in zip(row_parts, selected, won, strict=True)
    ]


def top_k_mask(values: Float[Tensor, "batch d_sae"], k: int) -> Bool[Tensor, "batch d_sae"]:
    """True on the k largest of each row; of equal values the smaller index goes first."""
    last = values.topk(k, dim=1).values[:, -1:]
    above = values > last
    ties = values == last
    room = k - above.sum(dim=1, keepdim=True)
    return above | (ties & (ties.cumsum(dim=1) <= room))


def _concatenate(
    parts: list[Int[Tensor, "_ k"]], owner: Int[Tensor, " row"], k: int
) -> Int[Tensor, "rows k"]:
    return torch.cat(parts) if parts else owner.new_zeros(0, k)


def _gate(
    pre: Float[Tensor, "row feature"], *, threshold: Float[Tensor, " feature"] | None
) -> Bool[Tensor, "row feature"]:
    return pre > 0 if threshold is None else (pre > 0) & (pre > threshold)


def _among(
    winners: Int[Tensor, "row k"], columns: Int[Tensor, " feature"], d_sae: int
) -> Bool[Tensor, "row feature"]:
    """Whether each column is one of a row's winners."""
    won = torch.zeros(len(winners), d_sae, dtype=torch.bool, device=winners.device)
    return won.scatter_(1, winners, True)[:, columns]


class _PooledColumns(torch.autograd.Function):
    """Mean over the rows of one response of the activations of given features.

    ∂c̄_i/∂h_row = gate_row,i · W_enc[:, i] / |rows|.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "row d_in"],
        columns: Int[Tensor, " feature"],
        winners: Int[Tensor, "row k"] | None,
        encoder: FeatureEncoder,
    ) -> Float[Tensor, " feature"]:
        weight = encoder.W_enc[:, columns]
        pre = torch.addmm(encoder.b_enc[columns], rows.to(weight.dtype), weight)
        threshold = None if encoder.threshold is None else encoder.threshold[columns]
        gate = _gate(pre, threshold=threshold)
        if winners is not None:
            gate &= _among(winners, columns, encoder.d_sae)
        ctx.save_for_backward(gate, columns)
        ctx.encoder = encoder
        ctx.row_dtype = rows.dtype
        return pre.mul_(gate).sum(dim=0) / max(len(rows), 1)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " feature"]) -> tuple[Tensor | None, ...]:
        gate, columns = ctx.saved_tensors
        encoder: FeatureEncoder = ctx.encoder
        weight = encoder.W_enc[:, columns] * (grad / max(len(gate), 1))
        rows = gate.to(weight.dtype) @ weight.T
        return rows.to(ctx.row_dtype), None, None, None
