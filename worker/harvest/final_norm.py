"""The norm between the last layer and the unembedding, and the unembedding itself."""

import copy
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.errors import Invalid
from worker.lm.hooks import decoder

_NAMES = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f", "final_norm")
_PROBE_SCALE = 1_000.0  # so large that the norm's epsilon vanishes


class FinalNorm(NamedTuple):
    """The linear part of the norm before the unembedding.

    Attributes:
        gain: factor of each dimension.
        centres: whether the mean is subtracted first, as LayerNorm does and RMSNorm does not.
    """

    gain: Float[Tensor, " d_in"]
    centres: bool


def unembedding(model: PreTrainedModel) -> Float[Tensor, "vocab d_in"]:
    """W_U: a row a token, in the model's number format."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return cast(nn.Linear, head).weight.detach()


def final_norm(model: PreTrainedModel) -> FinalNorm:
    """Gain and centring of the model's last norm.

    Raises:
        Invalid: the architecture keeps its last norm in no place that is known.
    """
    stack = decoder(model)
    norm = next((module for name in _NAMES if (module := getattr(stack, name, None))), None)
    if not isinstance(norm, nn.Module):
        raise Invalid(
            f"{type(model).__name__} has no last norm that Sparsight can find.",
            hint="Set n_logits to 0 to harvest without logit effects.",
        )
    return measure_norm(copy.deepcopy(norm).float().cpu(), unembedding(model).shape[1])


@torch.inference_mode()
def measure_norm(norm: nn.Module, d_in: int) -> FinalNorm:
    """Gain and centring of a norm, measured from what it does.

    A norm is ``gain * (x - c mean(x)) / scale(x) + bias``. Half the difference of its values on
    x and -x is free of the bias; multiplied by scale(x) / x it leaves the gain. Measuring spares
    a list of classes: Gemma multiplies by (1 + weight), others by weight, some have none.

    Args:
        norm: the module, in float32 and on the CPU.
        d_in: width of the residual stream, at least 2.
    """
    x = torch.ones(d_in)
    x[1::2] = -1.0
    x = _PROBE_SCALE * (x - x.mean())
    gain = _odd_part(norm, x) * _rms(x) / x
    shifted = x + 3 * _PROBE_SCALE
    seen = _odd_part(norm, shifted)
    if_centred, if_plain = gain * x / _rms(x), gain * shifted / _rms(shifted)
    return FinalNorm(gain, bool((seen - if_centred).norm() < (seen - if_plain).norm()))


def _odd_part(norm: nn.Module, x: Float[Tensor, " d_in"]) -> Float[Tensor, " d_in"]:
    plus, minus = norm(torch.stack([x, -x])[None])[0]
    return cast(Tensor, (plus - minus) / 2)


def _rms(x: Float[Tensor, " d_in"]) -> Float[Tensor, ""]:
    return x.square().mean().sqrt()
