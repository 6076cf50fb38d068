"""Sparse autoencoders: where one comes from and what it is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from core.domain.spec import Spec


class SaeKind(StrEnum):
    """How an SAE is stored."""

    HUB = "hub"  # sae-lens release + id
    FOLDER = "folder"  # sae-lens cfg.json + sae_weights.safetensors
    NPZ = "npz"  # Gemma Scope params.npz (the file, or its folder)


class SaeSource(Spec):
    """Where an SAE is loaded from."""

    kind: SaeKind = Field(description="How the SAE is stored.")
    location: Annotated[str, Field(min_length=1)] = Field(
        description="sae-lens release, or local folder or file."
    )
    release_id: str | None = Field(
        default=None,
        description="Id inside a sae-lens release, e.g. layer_12/width_16k/canonical.",
    )
    hook_name: str | None = Field(
        default=None, description="Hook point; needed only where the files do not name it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeInfo:
    """What is known of a loaded SAE.

    Attributes:
        revision: sha256 over its weights; names the exact weights.
        architecture: relu, jumprelu, topk, batchtopk, gated.
        normalize_activations: how the input is scaled before encoding.
    """

    hook_name: str
    layer: int
    d_in: int
    d_sae: int
    architecture: str
    normalize_activations: str
    revision: str
