"""From a configuration and named tensors, as sae-lens stores them, to a SparseAutoencoder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from core.domain.hook import layer_of
from core.domain.sae import SaeInfo
from core.errors import Invalid
from worker.sae.activations import Activation, Gated, JumpRelu, Relu, TopK
from worker.sae.model import Normalization, SparseAutoencoder

_NAMES = {
    "standard": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
    "gated": "gated",
}
_SMALLEST_NORM = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeConfig:
    """The part of a configuration that decides activations.

    Attributes:
        place: file, folder or release that it came from, for messages.
        architecture: sae-lens's name.
        input_scale: factor on the input by which expected_average_only_in normalises; none
            where it is not known.
    """

    place: str
    architecture: str
    hook_name: str
    apply_b_dec_to_input: bool
    normalize_activations: str = "none"
    k: int | None = None
    rescale_acts_by_decoder_norm: bool = False
    input_scale: float | None = None


def build_sae(
    config: SaeConfig, tensors: Mapping[str, Tensor], *, revision: str, device: torch.device
) -> SparseAutoencoder:
    """A SparseAutoencoder in float32 on ``device``.

    A known input scale and decoder norms are folded into the weights, as sae-lens does.

    Raises:
        Invalid: an architecture, normalisation, tensor or shape that is not as it must be.
        HookUnknown: the hook point is none that can be read.
    """
    if config.architecture not in _NAMES:
        raise Invalid(
            f"{config.place} is an SAE of architecture {config.architecture!r}.",
            hint=f"Sparsight reads {', '.join(_NAMES)}.",
        )
    weights = _Weights(config, tensors, device)
    W_enc, W_dec, b_dec = weights.matrix("W_enc"), weights.matrix("W_dec"), weights.vector("b_dec")
    b_enc = weights.vector("b_gate" if config.architecture == "gated" else "b_enc")
    _check_shapes(config.place, W_enc=W_enc, W_dec=W_dec, b_enc=b_enc, b_dec=b_dec)
    d_in, d_sae = W_enc.shape
    sae = SparseAutoencoder(
        info=SaeInfo(
            hook_name=config.hook_name,
            layer=layer_of(config.hook_name),
            d_in=d_in,
            d_sae=d_sae,
            architecture=_NAMES[config.architecture],
            normalize_activations=_normalization(config).value,
            revision=revision,
        ),
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=b_enc,
        b_dec=b_dec,
        activation=_activation(config, weights, b_enc),
        apply_b_dec_to_input=config.apply_b_dec_to_input,
    )
    if config.normalize_activations == "expected_average_only_in":
        sae = _fold_input_scale(sae, config)
    return _fold_decoder_norms(sae) if config.rescale_acts_by_decoder_norm else sae


class _Weights:
    """Named tensors, taken out as float32 with a clear error where one is missing or odd."""

    def __init__(
        self, config: SaeConfig, tensors: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._place = config.place
        self._tensors = tensors
        self._device = device

    def matrix(self, name: str) -> Float32[Tensor, "row column"]:
        """A tensor with two axes."""
        return self._take(name, 2)

    def vector(self, name: str) -> Float32[Tensor, " entry"]:
        """A tensor with one axis."""
        return self._take(name, 1)

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._tensors

    def scalar(self, name: str) -> float:
        """A tensor with one entry."""
        return float(self._take(name, 0))

    def _take(self, name: str, n_axes: int) -> Float32[Tensor, "..."]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise Invalid(
                f"{self._place} has no tensor {name}; it has {', '.join(sorted(self._tensors))}.",
                hint="Check that this is an SAE of the architecture that its configuration names.",
            )
        if tensor.dim() != n_axes or not tensor.is_floating_point():
            raise Invalid(
                f"{self._place}: {name} is {_describe(tensor)}, not floating-point numbers "
                f"on {n_axes} axes.",
                hint="Check that the file is whole and an SAE.",
            )
        return tensor.detach().to(self._device, torch.float32).contiguous()


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _check_shapes(
    place: str,
    *,
    W_enc: Float[Tensor, "a b"],
    W_dec: Float[Tensor, "c d"],
    b_enc: Float[Tensor, " e"],
    b_dec: Float[Tensor, " f"],
) -> None:
    d_in, d_sae = W_enc.shape
    shapes = {"W_dec": W_dec.shape, "b_enc": b_enc.shape, "b_dec": b_dec.shape}
    wanted = {"W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    for name, shape in shapes.items():
        if tuple(shape) != wanted[name]:
            raise Invalid(
                f"{place}: W_enc is {list(W_enc.shape)}, so {name} must be "
                f"{list(wanted[name])}, but is {list(shape)}.",
                hint="Check that the file is whole; W_enc is [d_in, d_sae].",
            )


def _normalization(config: SaeConfig) -> Normalization:
    if config.normalize_activations == "expected_average_only_in":
        return Normalization.NONE  # folded below
    try:
        return Normalization(config.normalize_activations)
    except ValueError as error:
        raise Invalid(
            f"{config.place} normalises its input by {config.normalize_activations!r}.",
            hint="Sparsight reads none, constant_norm_rescale, layer_norm, and "
            "expected_average_only_in with a known factor; fold others first.",
        ) from error


def _activation(
    config: SaeConfig, weights: _Weights, b_enc: Float32[Tensor, " d_sae"]
) -> Activation:
    match config.architecture:
        case "standard":
            return Relu()
        case "topk":
            return TopK(_k(config, len(b_enc)))
        case "gated":
            scale = _sized(config, weights, "r_mag", b_enc).exp()
            return Gated(scale, _sized(config, weights, "b_mag", b_enc) - b_enc * scale)
        case "jumprelu":
            return JumpRelu(_sized(config, weights, "threshold", b_enc))
        case _:  # BatchTopK as it is saved while training
            if weights.has("threshold"):
                return JumpRelu(_sized(config, weights, "threshold", b_enc))
            return JumpRelu(torch.full_like(b_enc, weights.scalar("topk_threshold")))


def _k(config: SaeConfig, d_sae: int) -> int:
    if config.k is None or not 1 <= config.k <= d_sae:
        raise Invalid(
            f"{config.place} is a TopK SAE of {d_sae} features with k = {config.k}.",
            hint=f"Its configuration must give k in 1 to {d_sae}.",
        )
    return config.k


def _sized(
    config: SaeConfig, weights: _Weights, name: str, b_enc: Float32[Tensor, " d_sae"]
) -> Float32[Tensor, " d_sae"]:
    vector = weights.vector(name)
    if vector.shape != b_enc.shape:
        raise Invalid(
            f"{config.place}: {name} has {len(vector)} entries, not one for each of "
            f"{len(b_enc)} features.",
            hint="Check that the file is whole.",
        )
    return vector


def _fold_input_scale(sae: SparseAutoencoder, config: SaeConfig) -> SparseAutoencoder:
    """Weights that read x as it is, from those that read ``scale · x``."""
    scale = config.input_scale
    if scale is None:
        raise Invalid(
            f"{config.place} was trained on inputs scaled to a mean norm of sqrt(d_in), and the "
            "factor is not stored with it.",
            hint="Fold it in sae-lens first: sae.fold_activation_norm_scaling_factor(factor), "
            "then sae.save_model(folder).",
        )
    return replace(sae, W_enc=sae.W_enc * scale, W_dec=sae.W_dec / scale, b_dec=sae.b_dec / scale)


def _fold_decoder_norms(sae: SparseAutoencoder) -> SparseAutoencoder:
    """Activations are measured as if decoder rows had norm 1; with these weights they have."""
    norms = sae.W_dec.norm(dim=-1).clamp(min=_SMALLEST_NORM)
    return replace(
        sae, W_enc=sae.W_enc * norms, b_enc=sae.b_enc * norms, W_dec=sae.W_dec / norms[:, None]
    )
