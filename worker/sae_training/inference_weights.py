"""A trained SAE as plain JumpReLU weights on the raw residual stream.

With scale s, sink direction u, centre c, decoder norms n and P = 1 - u u^T, training computes
``acts = n * ((P s x + s c u - b_dec) W_enc + b_enc)`` and ``s x ~ acts / n W_dec + b_dec``.
All of it is folded, so that ``x ~ jumprelu(x W_enc' + b_enc') W_dec' + b_dec'`` needs no
normalisation, no input bias and no decoder norms.
"""

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float32, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.sae.activations import JumpRelu, activate
from worker.sae_training.sinks import SinkDirection
from worker.sae_training.trainer import TrainedSae

WEIGHTS_FILE = "sae_weights.safetensors"
CONFIG_FILE = "cfg.json"
_BLOCK_ROWS = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpReluWeights:
    """``acts = pre * (pre > threshold)``, ``pre = x W_enc + b_enc``, ``x ~ acts W_dec + b_dec``.

    Attributes:
        W_dec: rows of unit norm.
    """

    W_enc: Float32[Tensor, "d_in d_sae"]
    W_dec: Float32[Tensor, "d_sae d_in"]
    b_enc: Float32[Tensor, " d_sae"]
    b_dec: Float32[Tensor, " d_in"]
    threshold: Float32[Tensor, " d_sae"]

    def encode(self, x: Float32[Tensor, "token d_in"]) -> Float32[Tensor, "token d_sae"]:
        """Feature activations; JumpReLU, arXiv 2407.14435 equation 3."""
        pre = torch.addmm(self.b_enc, x, self.W_enc)
        return activate(pre, JumpRelu(self.threshold))

    def decode(self, acts: Float32[Tensor, "token d_sae"]) -> Float32[Tensor, "token d_in"]:
        """The residual stream that the activations stand for."""
        return torch.addmm(self.b_dec, acts, self.W_dec)


@torch.no_grad()
def fold(trained: TrainedSae) -> JumpReluWeights:
    """Inference weights of a trained SAE, with the running threshold of the training."""
    sae, scale = trained.sae, trained.scale
    W_enc, W_dec = sae.W_enc.detach(), sae.W_dec.detach()
    norms = W_dec.norm(dim=-1)
    b_enc = sae.b_enc - sae.b_dec @ W_enc
    if trained.sink is not None:
        along = trained.sink.direction @ W_enc
        b_enc = b_enc + scale * trained.sink.centre * along
        W_enc = W_enc - torch.outer(trained.sink.direction, along)
    threshold = torch.full_like(norms, float(sae.topk_threshold) / scale)
    return JumpReluWeights(
        W_enc=(W_enc * norms).contiguous(),
        W_dec=(W_dec / norms[:, None]).contiguous(),
        b_enc=b_enc.detach() * norms / scale,
        b_dec=sae.b_dec.detach() / scale,
        threshold=threshold,
    )


def calibrate_threshold(
    weights: JumpReluWeights, rows: Float32[Tensor, "token d_in"], *, k: float
) -> JumpReluWeights:
    """The same weights with the one threshold at which k features a token fire on ``rows``."""
    floor = 0.5 * float(weights.threshold[0])
    low = replace(weights, threshold=torch.full_like(weights.threshold, floor))
    values = [
        acts[acts > 0] for acts in (low.encode(part) for part in torch.split(rows, _BLOCK_ROWS))
    ]
    above = torch.cat(values)
    n_kept = min(int(k * rows.shape[0]), above.numel() - 1)
    cut = float(above.kthvalue(above.numel() - n_kept).values)
    return replace(weights, threshold=torch.full_like(weights.threshold, cut))


def add_sink_feature(
    weights: JumpReluWeights, sink: SinkDirection | None, counts: Int[Tensor, " d_sae"]
) -> tuple[JumpReluWeights, int | None]:
    """The weights with the rarest feature replaced by one that fires on sinks, and its index.

    Its activation is the coordinate along the sink direction above the ordinary tokens' mean, and
    it writes just that back, so sinks are reconstructed although no trained feature sees them.
    """
    if sink is None:
        return weights, None
    index = int(counts.argmin())
    W_enc, W_dec = weights.W_enc.clone(), weights.W_dec.clone()
    b_enc, threshold = weights.b_enc.clone(), weights.threshold.clone()
    W_enc[:, index] = sink.direction
    W_dec[index] = sink.direction
    b_enc[index] = -sink.centre
    threshold[index] = sink.max_norm / 2
    return replace(weights, W_enc=W_enc, W_dec=W_dec, b_enc=b_enc, threshold=threshold), index


def save_weights(
    weights: JumpReluWeights, folder: Path, *, model_name: str, hook_name: str, context_size: int
) -> JumpReluWeights:
    """Write a sae-lens folder, matrices in float16, and give back what a reader will get."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "W_enc": weights.W_enc.half(),
        "W_dec": weights.W_dec.half(),
        "b_enc": weights.b_enc,
        "b_dec": weights.b_dec,
        "threshold": weights.threshold,
    }
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {
        "architecture": "jumprelu",
        "d_in": weights.W_dec.shape[1],
        "d_sae": weights.W_dec.shape[0],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": version("sae-lens"),
            "sae_lens_training_version": version("sae-lens"),
            "model_name": model_name,
            "hook_name": hook_name,
            "hook_head_index": None,
            "context_size": context_size,
            "prepend_bos": True,
        },
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    return load_weights(folder)


def load_weights(folder: Path) -> JumpReluWeights:
    """The weights of such a folder, in float32."""
    stored = load_file(folder / WEIGHTS_FILE)
    return JumpReluWeights(**{name: tensor.float() for name, tensor in stored.items()})
