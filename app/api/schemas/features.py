"""Bodies about features, their contexts and their neighbours."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from app.api.schemas.base import Schema
from app.api.schemas.catalog import Harvest, Sae
from app.api.schemas.labels import LabelBody
from app.services.features.catalog import token_text
from app.services.features.features import FeatureScatter, RawRecord, RawRecords, shortest
from core.domain.activation import Band, ContextActivations, FeatureStats
from core.domain.label import Label, LabelText
from core.domain.views import (
    FeatureCard,
    FeatureList,
    FeaturePage,
    Neighbour,
    TokenWeight,
    Vocabulary,
)


class FeatureToken(Schema):
    """A token with a number."""

    token_id: int = Field(description="Id of the token.", examples=[7_471])
    text: str = Field(description="Its text.", examples=[" sorry"])
    value: float = Field(description="Change of the token's logit.", examples=[0.412])

    @classmethod
    def of(cls, weight: TokenWeight, words: Vocabulary) -> Self:
        """The body of a weighted token."""
        text = token_text(words, weight.token_id)
        return cls(token_id=weight.token_id, text=text, value=weight.value)


class Stats(Schema):
    """What a feature did over the corpus."""

    index: int = Field(description="Index of the feature in its SAE, from 0.", examples=[2_511])
    density: float = Field(
        description="Share of scored tokens with activation above 0, in [0, 1].", examples=[0.0031]
    )
    n_active: int = Field(description="Scored tokens with activation above 0.", examples=[923])
    n_contexts: int = Field(description="Contexts with such a token.", examples=[310])
    max_activation: float = Field(description="Largest activation.", examples=[14.25])
    mean_activation: float = Field(
        description="Mean over tokens with activation above 0.", examples=[3.01]
    )
    dead: bool = Field(description="Whether it never fired.", examples=[False])


class Context(Schema):
    """A context with one feature's activation on each token."""

    context_index: int = Field(description="Number of the context in its harvest.", examples=[1004])
    band: str = Field(
        description="top; q75_100, q50_75, q25_50, q0_25: quantiles of contexts by maximum "
        "activation; random: drawn from the corpus whether or not the feature fires.",
        examples=["top"],
    )
    max_activation: float = Field(description="Largest activation here.", examples=[14.25])
    peak: int = Field(description="Position of the largest activation.", examples=[2])
    token_ids: list[int] = Field(
        description="Ids as the model saw them, BOS in front.", examples=[[1, 339, 7_471]]
    )
    tokens: list[str] = Field(
        description="Text of each token; bytes that are no whole character are U+FFFD.",
        examples=[["<|im_start|>", "I'm", " sorry"]],
    )
    activations: list[float] = Field(
        description="The feature's activation on each token; 0 on unscored ones.",
        examples=[[0.0, 0.0, 14.25]],
    )
    source: str = Field(description="Part of the corpus.", examples=["python-docs"])
    document: int = Field(description="Number of the document in the corpus.", examples=[87])
    start: int = Field(
        description="Offset of the first token after BOS in its document, in tokens.",
        examples=[254],
    )

    @classmethod
    def of(cls, context: ContextActivations, words: Vocabulary) -> "Context":
        """The body of a context."""
        ids = context.token_ids.tolist()
        peak = context.peak
        return cls.model_construct(
            context_index=context.context_index,
            band=band_name(context.band),
            max_activation=shortest(float(context.activations[peak])),
            peak=peak,
            token_ids=ids,
            tokens=[token_text(words, token_id) for token_id in ids],
            activations=plain(context.activations),
            source=context.source,
            document=context.document,
            start=context.start,
        )


class FeatureRow(Stats):
    """One row of a feature list."""

    peak_token: FeatureToken | None = Field(
        description="Token at its largest activation, which is the value; null if it is dead."
    )
    promoted: list[str] = Field(
        description="Tokens whose logits it raises most.", examples=[[" sorry", " apologize"]]
    )
    preview: Context | None = Field(description="Its top context; null if it is dead.")
    label: str | None = Field(
        description="The name that people gave it; null without one.", examples=["apologies"]
    )
    tags: list[str] = Field(description="Tags that it bears.", examples=[["tone"]])

    @classmethod
    def from_card(cls, card: FeatureCard, words: Vocabulary, text: LabelText) -> Self:
        """The body of a row."""
        peak = TokenWeight(token_id=card.peak_token, value=card.stats.max_activation)
        return cls(
            **stats_values(card.stats),
            peak_token=None if card.stats.dead else FeatureToken.of(peak, words),
            promoted=[token_text(words, token_id) for token_id in card.promoted],
            preview=None if card.preview is None else Context.of(card.preview, words),
            label=text.name or None,
            tags=list(text.tags),
        )


class FeatureListBody(Schema):
    """One page of a feature list."""

    features: list[FeatureRow] = Field(description="In the order asked for.")
    n_matching: int = Field(description="Features that match, on all pages.", examples=[4_587])
    previous_after: str | None = Field(
        description="Send it back as after for the page before; null on the first page.",
        examples=["before_0.0031_2511"],
    )
    next_after: str | None = Field(
        description="Value of after for the next page; null on the last.", examples=["0.0031_2511"]
    )

    @classmethod
    def of(cls, found: FeatureList, words: Vocabulary, labels: Mapping[int, Label]) -> Self:
        """The body of a list."""
        texts = {index: label.text for index, label in labels.items()}
        return cls(
            features=[
                FeatureRow.from_card(card, words, texts.get(card.stats.index, LabelText()))
                for card in found.cards
            ],
            n_matching=found.n_matching,
            previous_after=found.previous_after,
            next_after=found.next_after,
        )


class HistogramBody(Schema):
    """Counts of positive activations in equal bins over [0, upper)."""

    upper: float = Field(description="End of the last bin, a power of two.", examples=[16.0])
    bin_width: float = Field(description="Width of a bin.", examples=[0.25])
    counts: list[int] = Field(description="Tokens in each bin.", examples=[[400, 210, 90]])


class RanksBody(Schema):
    """Share of the SAE's living features that this one exceeds, in [0, 1]."""

    density: float = Field(description="By density.", examples=[0.83])
    max_activation: float = Field(description="By largest activation.", examples=[0.91])
    mean_activation: float = Field(description="By mean activation.", examples=[0.64])


class NeighbourBody(Stats):
    """Another feature with its nearness."""

    value: float = Field(description="Nearness: cosine, or correlation.", examples=[0.61])
    support: int | None = Field(
        description="Tokens on which both fire; null for decoder cosine.", examples=[112]
    )
    peak_token: FeatureToken | None = Field(
        description="Token at its largest activation; null if it is dead."
    )

    @classmethod
    def of(cls, neighbour: Neighbour, words: Vocabulary) -> Self:
        """The body of a neighbour."""
        stats = neighbour.stats
        peak = TokenWeight(token_id=neighbour.peak_token, value=stats.max_activation)
        return cls(
            **stats_values(stats),
            value=neighbour.value,
            support=neighbour.support,
            peak_token=None if stats.dead else FeatureToken.of(peak, words),
        )


class NeighboursBody(Schema):
    """Features near one."""

    coactivation: list[NeighbourBody] = Field(
        description="Those that fire on the same tokens, the nearest first."
    )
    decoder_cosine: list[NeighbourBody] = Field(
        description="Those whose decoder directions are alike, the nearest first."
    )

    @classmethod
    def from_page(cls, page: FeaturePage, words: Vocabulary) -> Self:
        """The neighbours on a feature's page."""
        return cls(
            coactivation=[NeighbourBody.of(n, words) for n in page.coactivation],
            decoder_cosine=[NeighbourBody.of(n, words) for n in page.decoder_cosine],
        )


class ContextsBody(Schema):
    """Contexts of a feature."""

    harvest_id: int = Field(description="Harvest they are of.", examples=[3])
    contexts: list[Context] = Field(description="In band order, the strongest of a band first.")
    band_counts: dict[str, int] = Field(
        description="Contexts kept in each band.", examples=[{"top": 20, "q75_100": 6}]
    )


class FeatureBody(NeighboursBody):
    """Everything known of one feature in a harvest."""

    model_id: str = Field(description="Id of the model.", examples=["smollm2-135m-instruct"])
    label: LabelBody = Field(description="What people say of it.")
    sae: Sae = Field(description="Its SAE.")
    harvest: Harvest = Field(description="The harvest that everything here is of.")
    stats: Stats = Field(description="What it did over the corpus.")
    ranks: RanksBody = Field(description="How it compares with the others.")
    histogram: HistogramBody = Field(description="How strong its activations were.")
    promoted: list[FeatureToken] = Field(description="Tokens whose logits it raises most.")
    suppressed: list[FeatureToken] = Field(description="Tokens whose logits it lowers most.")
    contexts: list[Context] = Field(description="In band order, the strongest of a band first.")
    band_counts: dict[str, int] = Field(
        description="Contexts kept in each band.", examples=[{"top": 20, "q75_100": 6}]
    )
    next_index: int | None = Field(description="Next feature; null at the end.", examples=[2_512])
    previous_index: int | None = Field(
        description="Previous feature; null at the beginning.", examples=[2_510]
    )
    other_harvests: list[Harvest] = Field(description="Other harvests with this SAE.")

    @classmethod
    def of(cls, page: FeaturePage, words: Vocabulary, label: Label) -> Self:
        """The body of a feature's page."""
        near = NeighboursBody.from_page(page, words)
        histogram = page.histogram
        return cls(
            model_id=page.model_id,
            label=LabelBody.of(label),
            sae=Sae.model_validate(page.sae),
            harvest=Harvest.model_validate(page.harvest),
            stats=Stats.model_validate(page.stats),
            ranks=RanksBody.model_validate(page.ranks),
            histogram=HistogramBody(
                upper=2.0**histogram.exponent,
                bin_width=histogram.bin_width,
                counts=histogram.counts.tolist(),
            ),
            promoted=[FeatureToken.of(weight, words) for weight in page.promoted],
            suppressed=[FeatureToken.of(weight, words) for weight in page.suppressed],
            coactivation=near.coactivation,
            decoder_cosine=near.decoder_cosine,
            contexts=[Context.of(context, words) for context in page.contexts],
            band_counts=band_counts(page),
            next_index=page.next_index,
            previous_index=page.previous_index,
            other_harvests=[Harvest.model_validate(h) for h in page.other_harvests],
        )


class RecordBody(Schema):
    """A context as an explainer sees it."""

    context_index: int = Field(description="Number of the context in its harvest.", examples=[1004])
    band: str = Field(description="Why it is kept.", examples=["top"])
    tokens: list[str] = Field(
        description="Text of each token; BOS and other special tokens are left out, tokens that "
        "are parts of one character are joined.",
        examples=[["I'm", " sorry"]],
    )
    activations: list[float] = Field(description="Raw activations.", examples=[[0.0, 14.25]])
    scaled: list[int] = Field(
        description="min(10, floor(10 · relu(a) / max_activation)).", examples=[[0, 10]]
    )
    text: str = Field(
        description="Rows of token, tab, scaled number; invisible characters shown.",
        examples=["I'm\t0\n sorry\t10"],
    )

    @classmethod
    def of(cls, raw: RawRecord) -> Self:
        """The body of a raw record."""
        return cls(
            context_index=raw.context_index,
            band=band_name(raw.band),
            tokens=list(raw.record.tokens),
            activations=[shortest(value) for value in raw.record.activations],
            scaled=list(raw.scaled),
            text=raw.text,
        )


class RecordsBody(Schema):
    """The raw view of a feature: token, tab, number from 0 to 10."""

    feature: str = Field(
        description="Id of the feature.", examples=["smollm2-135m-instruct/15-demo-res-4k/2511"]
    )
    harvest_id: int = Field(description="Harvest they are of.", examples=[3])
    max_activation: float = Field(description="The activation that becomes 10.", examples=[14.25])
    only_nonzero: bool = Field(
        description="Whether rows of number 0 are left out of the texts.", examples=[False]
    )
    records: list[RecordBody] = Field(description="In band order.")

    @classmethod
    def of(cls, raw: RawRecords) -> Self:
        """The body of a raw view."""
        return cls(
            feature=str(raw.feature),
            harvest_id=raw.harvest_id,
            max_activation=shortest(raw.max_activation),
            only_nonzero=raw.only_nonzero,
            records=[RecordBody.of(record) for record in raw.records],
        )


class ScatterBody(Schema):
    """Numbers of every feature of an SAE; place i is feature i."""

    harvest_id: int = Field(description="Harvest they are of.", examples=[3])
    density: list[float] = Field(description="Densities.", examples=[[0.0031, 0.0]])
    max_activation: list[float] = Field(description="Largest activations.", examples=[[14.25, 0.0]])
    mean_activation: list[float] = Field(description="Mean activations.", examples=[[3.01, 0.0]])

    @classmethod
    def of(cls, scatter: FeatureScatter) -> "ScatterBody":
        """The body of a scatter plot's numbers."""
        return cls.model_construct(
            harvest_id=scatter.harvest_id,
            density=scatter.density.tolist(),
            max_activation=scatter.max_activation.tolist(),
            mean_activation=scatter.mean_activation.tolist(),
        )


class FeatureName(Schema):
    """The id of a feature."""

    feature: str = Field(
        description="Model, SAE and index.", examples=["smollm2-135m-instruct/15-demo-res-4k/2511"]
    )
    index: int = Field(description="Index in its SAE.", examples=[2_511])


def band_name(band: Band) -> str:
    """A band as the API writes it.

    >>> band_name(Band.Q75_100)
    'q75_100'
    """
    return band.name.lower()


def band_counts(page: FeaturePage) -> dict[str, int]:
    """Contexts kept in each band, by the API's names."""
    return {band_name(band): count for band, count in page.band_counts.items()}


def plain(values: Float32[np.ndarray, " pos"]) -> list[float]:
    """Numbers with as few digits as tell the float32 apart, so that 0.1 stays 0.1."""
    return [shortest(value) for value in values.tolist()]


def stats_values(stats: FeatureStats) -> dict[str, int | float | bool]:
    """The fields of Stats."""
    return {
        "index": stats.index,
        "density": stats.density,
        "n_active": stats.n_active,
        "n_contexts": stats.n_contexts,
        "max_activation": stats.max_activation,
        "mean_activation": stats.mean_activation,
        "dead": stats.dead,
    }
