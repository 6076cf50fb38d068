"""Tokens with an outlying residual: attention sinks, on which nearly every feature would fire.

In Llama-like models a few tokens near the beginning of a context carry a residual of ten to a
hundred times the usual length. What an SAE makes of it says nothing about the token, yet it would
be the largest activation of most features and fill their top contexts.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def norms_of(residual: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token"]:
    """Length of each residual, in float32."""
    norms: Tensor = torch.linalg.vector_norm(residual.float(), dim=-1)
    return norms


def is_outlier(
    residual: Float[Tensor, "*token d_in"], limit: float | None
) -> Bool[Tensor, "*token"]:
    """Which residuals are longer than the limit, if there is one; NaN never is, so it is seen."""
    if limit is None:
        return torch.zeros(residual.shape[:-1], dtype=torch.bool, device=residual.device)
    return norms_of(residual).gt(limit)
