"""The head of a language model: from final hidden states to logits, by chunks of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Unembedding:
    """logits = cap · tanh(scale · (W h + b) / cap), without the cap where it is None.

    Attributes:
        softcap: Gemma's ``final_logit_softcapping``.
        scale: Cohere's ``logit_scale``, or one over Granite's ``logits_scaling``.
    """

    weight: Float[Tensor, "vocab d_in"]
    bias: Float[Tensor, " vocab"] | None = None
    softcap: float | None = None
    scale: float = 1.0

    def logits(self, rows: Float[Tensor, "row d_in"]) -> Float[Tensor, "row vocab"]:
        """Logits in float32, or float64 for float64 rows; the product runs in the rows' dtype."""
        product = torch.nn.functional.linear(
            rows,
            self.weight.to(rows.dtype),
            None if self.bias is None else self.bias.to(rows.dtype),
        )
        wide = product.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
        if self.scale != 1.0:
            wide = wide * self.scale
        return wide if self.softcap is None else torch.tanh(wide / self.softcap) * self.softcap

    def slope(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"] | None:
        """Derivative of the soft cap at given logits; None without one."""
        return None if self.softcap is None else 1 - (logits / self.softcap) ** 2

    def backward(
        self,
        grad_logits: Float[Tensor, "row vocab"],
        slope: Float[Tensor, "row vocab"] | None,
        rows: Float[Tensor, "row d_in"],
        *,
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of rows, weight and bias, each only where ``needs`` asks for it."""
        if slope is not None:
            grad_logits = grad_logits.mul_(slope)
        if self.scale != 1.0:
            grad_logits = grad_logits.mul_(self.scale)
        narrow = grad_logits.to(rows.dtype)
        grad_rows = narrow @ self.weight.to(rows.dtype) if needs[0] else None
        grad_weight = (narrow.T @ rows).to(self.weight.dtype) if needs[1] else None
        grad_bias = None
        if self.bias is not None and needs[2]:
            grad_bias = grad_logits.sum(0).to(self.bias.dtype)
        return grad_rows, grad_weight, grad_bias
