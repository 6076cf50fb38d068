"""Constraint sets: SAEs whose features are held while a model is aligned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.domain.alignment import ConstraintSae, IndexSet
from core.errors import Invalid
from worker.align.divergence import FeatureDivergence, feature_divergence
from worker.align.pooling import FeatureEncoder
from worker.sae.activations import JumpRelu, Relu, TopK
from worker.sae.model import Normalization, SparseAutoencoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One SAE of a constraint set, ready to be computed.

    Attributes:
        revision: sha256 over the SAE's weights.
        weights: weight of each feature; None where all are 1, the paper's loss.
        held: features that enter the sum whatever their rank; None where there are none.
        factor: of this SAE's divergence in the sum over SAEs.
    """

    sae_id: str
    hook_name: str
    revision: str
    encoder: FeatureEncoder
    k: int
    index_set: IndexSet
    weights: Float[Tensor, " d_sae"] | None
    held: Bool[Tensor, " d_sae"] | None
    factor: float

    def divergence(
        self,
        *,
        hidden: Float[Tensor, "batch pos d_in"],
        mask: Bool[Tensor, "batch pos"],
        reference_means: Float[Tensor, "batch d_sae"],
    ) -> FeatureDivergence:
        """The divergence of each response, not yet multiplied by ``factor``."""
        return feature_divergence(
            hidden=hidden,
            mask=mask,
            reference_means=reference_means,
            encoder=self.encoder,
            k=self.k,
            weights=self.weights,
            held=self.held,
            index_set=self.index_set,
        )


def encoder_of(sae: SparseAutoencoder) -> FeatureEncoder:
    """The encoder of an SAE as one affine map and a gate; b_dec is folded into the bias.

    Raises:
        Invalid: the SAE scales each token or has gates with weights of their own.
    """
    if sae.normalization is not Normalization.NONE:
        raise Invalid(
            f"The SAE scales each token ({sae.normalization.value}), which a constraint cannot.",
            hint="Choose an SAE without normalisation, such as Gemma Scope.",
        )
    b_enc = sae.b_enc - sae.b_dec @ sae.W_enc if sae.apply_b_dec_to_input else sae.b_enc
    match sae.activation:
        case Relu():
            return FeatureEncoder(W_enc=sae.W_enc, b_enc=b_enc)
        case JumpRelu(threshold=threshold):
            return FeatureEncoder(W_enc=sae.W_enc, b_enc=b_enc, threshold=threshold)
        case TopK(k=k):
            return FeatureEncoder(W_enc=sae.W_enc, b_enc=b_enc, top_k=k)
        case _:
            raise Invalid(
                f"{sae.info.architecture} SAEs cannot hold features.",
                hint="Choose a ReLU, JumpReLU, TopK or BatchTopK SAE.",
            )


def make_constraint(
    entry: ConstraintSae, *, encoder: FeatureEncoder, hook_name: str, revision: str
) -> Constraint:
    """A constraint from its settings and the SAE's encoder.

    Raises:
        Invalid: k or a feature's index does not fit the SAE.
    """
    named = [held.feature for held in entry.held] + list(entry.free)
    beyond = [feature for feature in named if feature >= encoder.d_sae]
    if beyond:
        raise Invalid(
            f"{entry.sae_id} has features 0 to {encoder.d_sae - 1}; {beyond[0]} is not one.",
            hint="Take the features of this SAE, not of a wider one.",
        )
    if entry.k > encoder.d_sae:
        raise Invalid(
            f"k = {entry.k} is more than the {encoder.d_sae} features of {entry.sae_id}.",
            hint=f"Choose k from 1 to {encoder.d_sae}.",
        )
    return Constraint(
        sae_id=entry.sae_id,
        hook_name=hook_name,
        revision=revision,
        encoder=encoder,
        k=entry.k,
        index_set=entry.index_set,
        weights=_weights(entry, encoder),
        held=_held(entry, encoder),
        factor=entry.weight,
    )


def total_divergence(
    constraints: Sequence[Constraint], found: Mapping[str, FeatureDivergence]
) -> Float[Tensor, " batch"]:
    """Σ over SAEs of factor · D; with one SAE of factor 1, the paper's D."""
    return torch.stack([c.factor * found[c.sae_id].values for c in constraints]).sum(dim=0)


def _weights(entry: ConstraintSae, encoder: FeatureEncoder) -> Float[Tensor, " d_sae"] | None:
    plain = all(held.weight == 1.0 for held in entry.held)
    if plain and entry.others == 1.0 and not entry.free:
        return None
    weights = encoder.b_enc.new_full((encoder.d_sae,), entry.others)
    for held in entry.held:
        weights[held.feature] = held.weight
    weights[list(entry.free)] = 0.0
    return weights


def _held(entry: ConstraintSae, encoder: FeatureEncoder) -> Bool[Tensor, " d_sae"] | None:
    if not entry.held:
        return None
    held = torch.zeros(encoder.d_sae, dtype=torch.bool, device=encoder.b_enc.device)
    held[[entry.feature for entry in entry.held]] = True
    return held
