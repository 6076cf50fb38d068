"""Bodies about what moved: drifts of aligned models, contexts in both models, samples."""

from datetime import datetime
from typing import Self

from pydantic import Field

from app.api.schemas.base import Schema
from app.api.schemas.contrasts import ReadSaeBody
from app.api.schemas.features import Context
from app.api.schemas.preference_sets import TurnBody
from core.domain.views import Vocabulary
from core.domain.views_drift import (
    AlignedContexts,
    DriftCard,
    DriftList,
    FeatureDrift,
    Place,
    SamplePair,
    SampleSet,
    Treatment,
)


class PlaceFactsBody(Schema):
    """Base and aligned model at the same positions, through one SAE."""

    n_items: int = Field(description="Answers or contexts.", examples=[64])
    n_tokens: int = Field(description="Positions.", examples=[1_530])
    base_norm: float = Field(description="Mean norm of the base's residual.", examples=[92.4])
    change_norm: float = Field(description="Mean norm of a position's change.", examples=[3.2])
    mean_change_norm: float = Field(description="Norm of the mean change.", examples=[1.1])
    base_explained_variance: float | None = Field(
        description="Of the base through this SAE; null if all residuals are the same.",
        examples=[0.81],
    )
    aligned_explained_variance: float | None = Field(
        description="Of the aligned model through the same SAE.", examples=[0.8]
    )
    base_l0: float = Field(description="Active features a position, base.", examples=[48.2])
    aligned_l0: float = Field(description="Active features a position, aligned.", examples=[48.9])


class DriftSaeBody(ReadSaeBody):
    """One SAE of a drift."""

    harvest_id: int | None = Field(
        description="Harvest whose contexts were read again; null without one.", examples=[3]
    )
    corpus_name: str = Field(description="Of that harvest.", examples=["demo-harvest"])
    n_moved: int = Field(description="Features that fire anywhere, in either.", examples=[3_870])
    places: dict[Place, PlaceFactsBody] = Field(description="Facts by place.")


class DriftBody(Schema):
    """An aligned model against its base."""

    drift_id: int = Field(description="Number of the drift.", examples=[1])
    job_id: int | None = Field(
        description="The job that measured it; null if it is gone.", examples=[12]
    )
    run_job_id: int | None = Field(description="The run; null if it is gone.", examples=[11])
    model_id: str = Field(description="Id of the base.", examples=["smollm2-135m-instruct"])
    aligned_id: str = Field(
        description="Id of the aligned model.", examples=["smollm2-135m-instruct-direct"]
    )
    preference_name: str = Field(description="Pairs that were read.", examples=["demo"])
    n_pairs: int = Field(description="So many of them.", examples=[32])
    dtype: str = Field(description="Number format of both models.", examples=["float32"])
    n_samples: int = Field(description="Generations side by side.", examples=[8])
    saes: list[DriftSaeBody] = Field(description="By layer.")
    finished_at: datetime = Field(
        description="When it was measured.", examples=["2026-11-20T10:03:20Z"]
    )

    @classmethod
    def of(cls, card: DriftCard) -> Self:
        """The body of a drift."""
        return cls.model_validate(card)


class PlaceDriftBody(Schema):
    """One feature of both models in one place."""

    base_mean: float = Field(description="Mean activation, base.", examples=[1.96])
    aligned_mean: float = Field(description="Mean activation, aligned.", examples=[0.88])
    delta: float = Field(description="Change of the mean.", examples=[-1.08])
    base_density: float = Field(description="Density, base.", examples=[0.12])
    aligned_density: float = Field(description="Density, aligned.", examples=[0.07])
    density_delta: float = Field(description="Change of the density.", examples=[-0.05])
    cosine: float | None = Field(
        description="Of the mean residual change with the decoder row; null without a change.",
        examples=[-0.31],
    )


class DriftRowBody(Schema):
    """What became of one feature."""

    index: int = Field(description="Index of the feature.", examples=[2_511])
    chosen: PlaceDriftBody = Field(description="On chosen answers.")
    rejected: PlaceDriftBody = Field(description="On rejected answers.")
    corpus: PlaceDriftBody | None = Field(description="On the index corpus; null without one.")
    treatment: Treatment = Field(description="By the run's constraint.", examples=["other"])
    explanation: str | None = Field(
        description="Its present explanation; null without one.", examples=["apologies"]
    )
    label: str | None = Field(
        description="The name that people gave it; null without one.", examples=["saying sorry"]
    )
    tags: list[str] = Field(description="Tags that it bears.", examples=[["tone"]])


class DriftListBody(Schema):
    """One page of a drift's features."""

    features_of: str = Field(
        description="Id of the model under which they are explained, labelled and have pages.",
        examples=["smollm2-135m-instruct"],
    )
    features: list[DriftRowBody] = Field(description="In the order asked for.")
    n_matching: int = Field(description="Features that match, on all pages.", examples=[3_870])
    previous_after: str | None = Field(
        description="Send it back as after for the page before; null on the first page.",
        examples=["before_1.08_2511"],
    )
    next_after: str | None = Field(
        description="Send it back as after; null on the last page.", examples=["1.08_2511"]
    )

    @classmethod
    def of(cls, found: DriftList) -> Self:
        """The body of a page."""
        return cls(
            features_of=found.features_of,
            features=[DriftRowBody.model_validate(row) for row in found.rows],
            n_matching=found.n_matching,
            previous_after=found.previous_after,
            next_after=found.next_after,
        )


class ComparedBody(Schema):
    """One stored context in both models."""

    context: Context = Field(description="With the base's activations, as the harvest keeps them.")
    aligned: list[float] = Field(
        description="The aligned model's activations on the same tokens.", examples=[[0, 0, 6.5]]
    )


class DriftFeatureBody(Schema):
    """One feature with its contexts in both models."""

    row: DriftRowBody = Field(description="What became of it.")
    contexts: list[ComparedBody] = Field(description="In the order of the feature's page.")

    @classmethod
    def of(cls, found: AlignedContexts, words: Vocabulary) -> Self:
        """The body of a feature's contexts."""
        return cls(
            row=DriftRowBody.model_validate(found.row),
            contexts=[
                ComparedBody(
                    context=Context.of(pair.base, words),
                    aligned=pair.aligned.activations.tolist(),
                )
                for pair in found.contexts
            ],
        )


class FeatureDriftBody(Schema):
    """One feature in one run."""

    drift_id: int = Field(description="Number of the drift.", examples=[1])
    run_job_id: int | None = Field(description="The run; null if it is gone.", examples=[11])
    model_id: str = Field(
        description="Id of the model that the run started from.", examples=["smollm2-135m-instruct"]
    )
    aligned_id: str = Field(
        description="Id of the aligned model.", examples=["smollm2-135m-instruct-direct"]
    )
    method: str = Field(description="Loss of the run.", examples=["fpo"])
    finished_at: datetime = Field(
        description="When it was measured.", examples=["2026-11-20T10:03:20Z"]
    )
    row: DriftRowBody = Field(description="What became of the feature.")


class FeatureDriftsBody(Schema):
    """Every run that was measured through a feature's SAE, the newest first."""

    drifts: list[FeatureDriftBody] = Field(description="The runs.")

    @classmethod
    def of(cls, found: tuple[FeatureDrift, ...]) -> Self:
        """The body of a feature's runs."""
        return cls(drifts=[FeatureDriftBody.model_validate(one) for one in found])


class SampleBody(Schema):
    """What one model wrote."""

    text: str = Field(description="Without special tokens.", examples=["Paris."])
    n_tokens: int = Field(description="Tokens drawn.", examples=[4])
    ended: bool = Field(description="Whether it ended its turn by itself.", examples=[True])


class SamplePairBody(Schema):
    """Both models on the same prompt."""

    position: int = Field(description="Number of the sample, from 0.", examples=[0])
    prompt: list[TurnBody] = Field(description="Turns up to the answer.")
    chosen: list[TurnBody] = Field(description="The data's preferred answer.")
    rejected: list[TurnBody] = Field(description="The data's other answer.")
    base: SampleBody = Field(description="What the base wrote.")
    aligned: SampleBody = Field(description="What the aligned model wrote.")

    @classmethod
    def of(cls, pair: SamplePair) -> Self:
        """The body of a pair of samples."""
        base, aligned = (
            SampleBody(text=one.text, n_tokens=len(one.token_ids), ended=one.ended)
            for one in (pair.base, pair.aligned)
        )
        prompt, chosen, rejected = (
            [TurnBody.model_validate(turn) for turn in turns]
            for turns in (pair.prompt, pair.chosen, pair.rejected)
        )
        return cls(
            position=pair.position,
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            base=base,
            aligned=aligned,
        )


class SamplesBody(Schema):
    """Generations of base and aligned model side by side."""

    temperature: float = Field(description="0 takes the likeliest token.", examples=[0.0])
    top_p: float = Field(description="Mass of the tokens drawn among.", examples=[1.0])
    max_new_tokens: int = Field(description="Tokens at most.", examples=[64])
    seed: int = Field(description="Seed of the draws.", examples=[0])
    samples: list[SamplePairBody] = Field(description="In the order of the prompts.")

    @classmethod
    def of(cls, found: SampleSet) -> Self:
        """The body of a drift's samples."""
        settings = found.settings
        return cls(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
            samples=[SamplePairBody.of(pair) for pair in found.pairs],
        )
