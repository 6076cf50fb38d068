"""A sparse autoencoder: frozen tensors with encode and decode, no hidden state."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from core.domain.sae import SaeInfo
from core.errors import Invalid
from worker.sae.activations import Activation, activate, restrict

_LAYER_NORM_EPSILON = 1e-5


class Normalization(StrEnum):
    """How an input is scaled before encoding, by sae-lens's names."""

    NONE = "none"
    CONSTANT_NORM = "constant_norm_rescale"  # to norm sqrt(d_in)
    LAYER_NORM = "layer_norm"  # to mean 0 and standard deviation 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How inputs are scaled: to (x − shift) / (scale + epsilon), and back by · scale + shift."""

    scale: Float32[Tensor, "token 1"]
    shift: Float32[Tensor, "token 1"]
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseAutoencoder:
    """Encoder and decoder in float32.

    pre = (scaled(x) − b_dec · [apply_b_dec_to_input]) W_enc + b_enc, acts = activation(pre),
    x ≈ unscaled(acts W_dec + b_dec).

    Attributes:
        activation: from pre to acts; holds thresholds or k.
        apply_b_dec_to_input: whether b_dec is taken off the input before encoding.
        record: measured quality, such as l0 and explained_variance, where it lies beside the
            weights.
    """

    info: SaeInfo
    W_enc: Float32[Tensor, "d_in d_sae"]
    W_dec: Float32[Tensor, "d_sae d_in"]
    b_enc: Float32[Tensor, " d_sae"]
    b_dec: Float32[Tensor, " d_in"]
    activation: Activation
    apply_b_dec_to_input: bool
    record: dict[str, float] = field(default_factory=dict)

    @property
    def normalization(self) -> Normalization:
        """How the input is scaled."""
        return Normalization(self.info.normalize_activations)

    def encode(self, x: Float[Tensor, "token d_in"]) -> Float32[Tensor, "token d_sae"]:
        """Activations of every feature, ≥ 0."""
        pre = torch.addmm(self.b_enc, self._encoder_input(x), self.W_enc)
        return activate(pre, self.activation)

    def encode_columns(
        self,
        x: Float[Tensor, "token d_in"],
        columns: Int[Tensor, " column"] | Bool[Tensor, " d_sae"],
    ) -> Float32[Tensor, "token column"]:
        """Activations of some features, equal to those columns of ``encode`` within rounding.

        Where features compete (TopK) all are computed and the columns taken.
        """
        activation = restrict(self.activation, columns)
        if activation is None:
            return self.encode(x)[:, columns]
        pre = torch.addmm(self.b_enc[columns], self._encoder_input(x), self.W_enc[:, columns])
        return activate(pre, activation)

    def decode(
        self,
        acts: Float[Tensor, "token d_sae"],
        *,
        inputs: Float[Tensor, "token d_in"] | None = None,
    ) -> Float32[Tensor, "token d_in"]:
        """The input that the activations stand for.

        Args:
            acts: activations.
            inputs: what was encoded; needed by SAEs that scale each token, to undo it.

        Raises:
            Invalid: this SAE scales its inputs and none were given.
        """
        decoded = torch.addmm(self.b_dec, acts.float(), self.W_dec)
        if self.normalization is Normalization.NONE:
            return decoded
        if inputs is None:
            raise Invalid(
                f"Decoding with {self.normalization.value} needs the inputs.",
                hint="Pass what was encoded.",
            )
        scaling = find_scaling(inputs.float(), self.normalization)
        return decoded * scaling.scale + scaling.shift

    def reconstruct(self, x: Float[Tensor, "token d_in"]) -> Float32[Tensor, "token d_in"]:
        """What is left of ``x`` after encoding and decoding."""
        return self.decode(self.encode(x), inputs=x)

    def _encoder_input(self, x: Float[Tensor, "token d_in"]) -> Float32[Tensor, "token d_in"]:
        x = x.float()
        if self.normalization is not Normalization.NONE:
            scaling = find_scaling(x, self.normalization)
            x = (x - scaling.shift) / (scaling.scale + scaling.epsilon)
        return x - self.b_dec if self.apply_b_dec_to_input else x


def find_scaling(x: Float32[Tensor, "token d_in"], normalization: Normalization) -> Scaling:
    """How each token is scaled, by sae-lens's formulas.

    Layer norm takes the standard deviation with n − 1, and adds 1e-5 on the way in only.
    """
    zero = torch.zeros_like(x[:, :1])
    match normalization:
        case Normalization.CONSTANT_NORM:
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            return Scaling(scale=norm / x.shape[-1] ** 0.5, shift=zero, epsilon=0.0)
        case Normalization.LAYER_NORM:
            mean, deviation = x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
            return Scaling(scale=deviation, shift=mean, epsilon=_LAYER_NORM_EPSILON)
        case Normalization.NONE:
            return Scaling(scale=zero + 1, shift=zero, epsilon=0.0)
        case _:
            assert_never(normalization)
