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
        floors: for TopK, each row's k-th largest pre-activation; None otherwise.
    """

    means: Float[Tensor, "batch d_sae"]
    floors: Float[Tensor, " row"] | None


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
    floors = []
    for start in range(0, len(rows), chunk_rows):
        piece = slice(start, start + chunk_rows)
        pre = torch.addmm(encoder.b_enc, rows[piece].to(sums.dtype), encoder.W_enc)
        floor = None if encoder.top_k is None else _floor(pre, encoder.top_k)
        gate = _gate(pre, threshold=encoder.threshold, floor=floor)
        sums.index_add_(0, owner[piece], pre.mul_(gate))
        floors.append(floor)
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return Pooled(
        means=sums / lengths,
        floors=None if encoder.top_k is None else _concatenate(floors, like=sums),
    )


def pool_selected(
    *,
    hidden: Float[Tensor, "batch pos d_in"],
    mask: Bool[Tensor, "batch pos"],
    encoder: FeatureEncoder,
    selected: Bool[Tensor, "batch d_sae"],
    floors: Float[Tensor, " row"] | None,
) -> list[Float[Tensor, " _"]]:
    """Pooled activations of each response's selected features, in index order, with gradient.

    Only the selected columns are encoded; the backward pass keeps one bit-sized gate for each
    row and selected feature, and reads the frozen encoder again.
    """
    lengths = mask.sum(dim=1).tolist()
    row_parts = torch.split(hidden[mask], lengths)
    floor_parts = [None] * len(lengths) if floors is None else torch.split(floors, lengths)
    return [
        _PooledColumns.apply(rows, columns.nonzero()[:, 0], floor, encoder)  # type: ignore[no-untyped-call]
        for rows, columns, floor in zip(row_parts, selected, floor_parts, strict=True)
    ]


def _floor(pre: Float[Tensor, "row d_sae"], k: int) -> Float[Tensor, " row"]:
    return pre.topk(min(k, pre.shape[1]), dim=1).values[:, -1]


def _concatenate(
    parts: list[Float[Tensor, " _"] | None], *, like: Tensor
) -> Float[Tensor, " rows"]:
    kept = [part for part in parts if part is not None]
    return torch.cat(kept) if kept else like.new_zeros(0)


def _gate(
    pre: Float[Tensor, "row feature"],
    *,
    threshold: Float[Tensor, " feature"] | None,
    floor: Float[Tensor, " row"] | None,
) -> Bool[Tensor, "row feature"]:
    gate = pre > 0
    if threshold is not None:
        gate &= pre > threshold
    if floor is not None:
        gate &= pre >= floor[:, None]
    return gate


class _PooledColumns(torch.autograd.Function):
    """Mean over the rows of one response of the activations of given features.

    ∂c̄_i/∂h_row = gate_row,i · W_enc[:, i] / |rows|.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "row d_in"],
        columns: Int[Tensor, " feature"],
        floor: Float[Tensor, " row"] | None,
        encoder: FeatureEncoder,
    ) -> Float[Tensor, " feature"]:
        weight = encoder.W_enc[:, columns]
        pre = torch.addmm(encoder.b_enc[columns], rows.to(weight.dtype), weight)
        threshold = None if encoder.threshold is None else encoder.threshold[columns]
        gate = _gate(pre, threshold=threshold, floor=floor)
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
