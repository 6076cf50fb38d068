"""Activation functions: from a feature's pre-activation to how strongly it fires.

All are ≥ 0. They overwrite their argument where that saves memory.
"""

from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Relu:
    """max(pre, 0)."""


@dataclass(frozen=True, slots=True)
class JumpRelu:
    """pre where pre > threshold, else 0; arXiv 2407.14435 equation 3, with relu for threshold < 0.

    BatchTopK SAEs are stored in this form, with one threshold for all features.
    """

    threshold: Float[Tensor, " feature"]


@dataclass(frozen=True, slots=True)
class TopK:
    """relu of the k largest pre-activations of each token, 0 elsewhere; arXiv 2406.04093."""

    k: int


@dataclass(frozen=True, slots=True)
class Gated:
    """relu(pre · scale + shift) where pre > 0, else 0; arXiv 2404.16014 equations 3 to 6.

    With gate bias b_gate inside pre: scale = exp(r_mag), shift = b_mag − b_gate · scale.
    """

    scale: Float[Tensor, " feature"]
    shift: Float[Tensor, " feature"]


Activation = Relu | JumpRelu | TopK | Gated


def activate(
    pre: Float[Tensor, "token feature"], activation: Activation
) -> Float[Tensor, "token feature"]:
    """Feature activations; ``pre`` may be overwritten."""
    match activation:
        case Relu():
            return pre.relu_()
        case JumpRelu(threshold=threshold):
            return pre.masked_fill_(pre <= threshold.clamp(min=0), 0.0)
        case TopK(k=k):
            values, indices = pre.topk(k, dim=-1, sorted=False)
            return torch.zeros_like(pre).scatter_(-1, indices, values.relu_())
        case Gated(scale=scale, shift=shift):
            silent = pre <= 0
            return pre.mul_(scale).add_(shift).relu_().masked_fill_(silent, 0.0)
        case _:
            assert_never(activation)


def restrict(
    activation: Activation,
    columns: Int[Tensor, " column"] | Bool[Tensor, " feature"],
) -> Activation | None:
    """The same function for some features only, or none where features compete (TopK)."""
    match activation:
        case Relu():
            return activation
        case JumpRelu(threshold=threshold):
            return JumpRelu(threshold[columns])
        case Gated(scale=scale, shift=shift):
            return Gated(scale[columns], shift[columns])
        case TopK():
            return None
        case _:
            assert_never(activation)
