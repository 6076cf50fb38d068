"""Bodies about contrasts: features on chosen against rejected answers."""

from datetime import datetime
from typing import Self

from pydantic import Field

from app.api.schemas.base import Schema
from core.domain.views_align import ContrastCard, ContrastList

_HASH = "9c1185a5c5e9fc54612808977ee8f548b2258d31b4a5a1e5c5a3f1d6d3e0a7b2"


class ReadSaeBody(Schema):
    """One SAE through which a model was read."""

    sae_id: str = Field(description="Id of the SAE.", examples=["15-demo-res-4k"])
    hook_name: str = Field(description="Where it reads.", examples=["blocks.15.hook_resid_post"])
    layer: int = Field(description="Layer of the hook point.", examples=[15])
    d_sae: int = Field(description="Features.", examples=[4_608])


class ContrastSaeBody(ReadSaeBody):
    """One SAE of a contrast."""

    n_active: int = Field(
        description="Features that fire on at least one response position.", examples=[1_904]
    )


class ContrastBody(Schema):
    """A model's features on the chosen and the rejected answers of a preference set."""

    contrast_id: int = Field(description="Number of the contrast.", examples=[2])
    job_id: int | None = Field(
        description="The job that made it; null if it is gone.", examples=[9]
    )
    model_id: str = Field(description="Id of the model.", examples=["smollm2-135m-instruct"])
    preference_name: str = Field(description="What the data are called.", examples=["demo"])
    preference_hash: str = Field(description="Content hash of the set.", examples=[_HASH])
    n_pairs: int = Field(description="Pairs that were read.", examples=[256])
    n_tokens_chosen: int = Field(description="Response positions, chosen.", examples=[5_120])
    n_tokens_rejected: int = Field(description="Response positions, rejected.", examples=[7_960])
    saes: list[ContrastSaeBody] = Field(description="By layer.")
    finished_at: datetime = Field(
        description="When it was made.", examples=["2026-11-20T10:03:20Z"]
    )

    @classmethod
    def of(cls, card: ContrastCard) -> Self:
        """The body of a contrast."""
        return cls.model_validate(card)


class ContrastsBody(Schema):
    """Contrasts, the newest first."""

    contrasts: list[ContrastBody] = Field(description="The contrasts.")


class ContrastFeatureBody(Schema):
    """One feature on the answers of the pairs."""

    index: int = Field(description="Index of the feature.", examples=[2_511])
    mean_chosen: float = Field(
        description="Mean over pairs of the chosen answer's mean activation.", examples=[0.41]
    )
    mean_rejected: float = Field(description="The same of rejected answers.", examples=[1.96])
    difference: float = Field(description="Chosen minus rejected.", examples=[-1.55])
    effect_size: float | None = Field(
        description="Difference over its standard deviation over pairs; null if not defined.",
        examples=[-1.21],
    )
    share_chosen: float = Field(
        description="Share of pairs in whose chosen answer it fires.", examples=[0.12]
    )
    share_rejected: float = Field(
        description="Share of pairs in whose rejected answer it fires.", examples=[0.83]
    )
    density: float = Field(
        description="Share of response positions on which it fires.", examples=[0.06]
    )
    corpus_density: float | None = Field(
        description="Share of corpus tokens; null without a harvest.", examples=[0.0009]
    )
    explanation: str | None = Field(
        description="Its present explanation; null without one.", examples=["apologies"]
    )
    label: str | None = Field(
        description="The name that people gave it; null without one.", examples=["saying sorry"]
    )
    tags: list[str] = Field(description="Tags that it bears.", examples=[["tone"]])


class ContrastFeatureList(Schema):
    """One page of a contrast's features."""

    features_of: str = Field(
        description="Id of the model under which they are explained, labelled and have pages.",
        examples=["smollm2-135m-instruct"],
    )
    features: list[ContrastFeatureBody] = Field(description="In the order asked for.")
    n_matching: int = Field(description="Features that match, on all pages.", examples=[1_904])
    previous_after: str | None = Field(
        description="Send it back as after for the page before; null on the first page.",
        examples=["before_1.21_2511"],
    )
    next_after: str | None = Field(
        description="Send it back as after; null on the last page.", examples=["1.21_2511"]
    )

    @classmethod
    def of(cls, found: ContrastList) -> Self:
        """The body of a page."""
        return cls(
            features_of=found.features_of,
            features=[ContrastFeatureBody.model_validate(row) for row in found.rows],
            n_matching=found.n_matching,
            previous_after=found.previous_after,
            next_after=found.next_after,
        )
