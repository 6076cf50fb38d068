"""What a run of explanations is to do: which features, what evidence, which tests, what cost."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from core.domain.explanation import (
    EvidenceStyle,
    ExplanationMethod,
    ScoreKind,
    SimulationMode,
)
from core.domain.ids import check_model_id, check_sae_id
from core.domain.spec import Spec

MAX_LISTED_FEATURES = 20_000

PromptLanguage: TypeAlias = Literal["en", "zh"]
FeatureIndex = Annotated[int, Field(ge=0, lt=2**31)]
EndpointId = Annotated[int, Field(ge=1, lt=2**31)]


class ListedFeatures(Spec):
    """Features by their index."""

    by: Literal["list"] = "list"
    indices: tuple[FeatureIndex, ...] = Field(
        min_length=1,
        max_length=MAX_LISTED_FEATURES,
        description="Indices of the features; each once.",
        examples=[[2511]],
    )

    @model_validator(mode="after")
    def _each_once(self) -> "ListedFeatures":
        if len(set(self.indices)) != len(self.indices):
            raise ValueError("a feature is named twice")
        return self


class QueriedFeatures(Spec):
    """Living features that pass filters, in an order, at most so many."""

    by: Literal["query"] = "query"
    sort: Literal["index", "density", "max_activation", "mean_activation"] = Field(
        default="index", description="What to sort by.", examples=["density"]
    )
    descending: bool = Field(default=False, description="Largest first.")
    min_density: float | None = Field(default=None, ge=0, le=1, description="Least density.")
    max_density: float | None = Field(default=None, ge=0, le=1, description="Greatest density.")
    min_activation: float | None = Field(
        default=None, ge=0, description="Least maximum activation."
    )
    max_activation: float | None = Field(
        default=None, ge=0, description="Greatest maximum activation."
    )
    token: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="Only features whose peak token contains this text, ignoring case.",
        examples=["sorry"],
    )
    limit: int = Field(
        default=100, ge=1, le=MAX_LISTED_FEATURES, description="At most so many features."
    )


class SampledFeatures(Spec):
    """Living features drawn at random by the run's seed."""

    by: Literal["sample"] = "sample"
    n: int = Field(
        default=100, ge=1, le=MAX_LISTED_FEATURES, description="At most so many.", examples=[100]
    )


class WholeSae(Spec):
    """Every living feature of the SAE."""

    by: Literal["all"] = "all"


FeatureSelection = Annotated[
    ListedFeatures | QueriedFeatures | SampledFeatures | WholeSae, Field(discriminator="by")
]


class ExplainerSetting(Spec):
    """How explanations are made."""

    endpoint_id: EndpointId | None = Field(
        default=None,
        description="Endpoint that explains; null explains by the token lookup table, offline: "
        "a baseline, not a language model.",
        examples=[1],
    )
    styles: tuple[EvidenceStyle, ...] = Field(
        default=(EvidenceStyle.RECORDS,),
        min_length=1,
        max_length=3,
        description="What the explainer is shown; one explanation for each. The lookup table "
        "knows no styles.",
        examples=[["records"]],
    )
    language: PromptLanguage = Field(
        default="en", description="Language of prompts and explanations."
    )
    n_records: int = Field(default=5, ge=1, le=40, description="Contexts shown, at most.")
    n_samples: int = Field(
        default=1, ge=1, le=5, description="Explanations of each style; every one is kept."
    )
    choose_best: bool = Field(
        default=False,
        description="Of several samples score only the one that does best on the calibration "
        "contexts, which are never scored on; the others are kept with their values.",
    )
    temperature: float = Field(default=1.0, ge=0, le=2, description="Sampling temperature.")
    skip_explained: bool = Field(
        default=False,
        description="Leave out what the same explainer has explained in the same style before.",
    )

    @model_validator(mode="after")
    def _styles_once(self) -> "ExplainerSetting":
        if len(set(self.styles)) != len(self.styles):
            raise ValueError("a style is named twice")
        return self


class ScorerSetting(Spec):
    """How explanations are tested."""

    endpoint_id: EndpointId | None = Field(
        default=None,
        description="Endpoint that simulates and judges; null simulates by the token lookup "
        "table, offline, and judges nothing.",
        examples=[1],
    )
    kinds: tuple[Literal["simulation", "detection", "fuzzing", "embedding"], ...] = Field(
        default=("simulation",),
        min_length=1,
        max_length=4,
        description="Kinds of test; embedding is a quick triage without a judge.",
        examples=[["simulation", "detection", "fuzzing", "embedding"]],
    )
    embedder_id: EndpointId | None = Field(
        default=None,
        description="Endpoint whose model embeds texts; needed for the kind embedding alone.",
        examples=[2],
    )
    mode: SimulationMode | None = Field(
        default=None,
        description="How to simulate; null takes the best that the endpoint can do.",
        examples=["all_at_once"],
    )
    language: PromptLanguage = Field(default="en", description="Language of prompts.")
    n_score: int = Field(
        default=5, ge=1, le=20, description="Top contexts, and random ones, to simulate on."
    )
    n_judged: int = Field(
        default=20, ge=2, le=50, description="Firing contexts, and silent ones, to judge."
    )
    shuffled_floor: bool = Field(
        default=True,
        description="Also simulate or judge with another feature's explanation; doubles the cost.",
    )
    existing: tuple[ExplanationMethod, ...] = Field(
        default=(),
        max_length=4,
        description="Also score explanations that are there already, made in these ways.",
        examples=[["human"]],
    )

    @property
    def score_kinds(self) -> tuple[ScoreKind, ...]:
        """The kinds as domain values."""
        return tuple(ScoreKind(kind) for kind in self.kinds)

    def asked_for(self, kind: ScoreKind) -> int | None:
        """The endpoint that is asked for this kind of test; None for the lookup table."""
        return self.embedder_id if kind is ScoreKind.EMBEDDING else self.endpoint_id

    @property
    def chooser(self) -> ScoreKind | None:
        """The first kind of test that asks an endpoint; None where nothing is asked."""
        asking = (kind for kind in self.score_kinds if self.asked_for(kind) is not None)
        return next(asking, None)

    @model_validator(mode="after")
    def _can_be_done(self) -> "ScorerSetting":
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("a kind is named twice")
        offline = self.endpoint_id is None
        if offline and set(self.kinds) & {"detection", "fuzzing"}:
            raise ValueError("detection and fuzzing need an endpoint that judges")
        if ("embedding" in self.kinds) != (self.embedder_id is not None):
            raise ValueError("the kind embedding and an endpoint that embeds go together")
        if offline and self.mode not in {None, SimulationMode.TOKEN_LOOKUP}:
            raise ValueError(f"simulation by {self.mode} needs an endpoint")
        if not offline and self.mode is SimulationMode.TOKEN_LOOKUP:
            raise ValueError("the token lookup table needs no endpoint")
        return self


class RunBudget(Spec):
    """The most that a run may spend, all its attempts together; null means without limit."""

    max_cost: float | None = Field(
        default=None, ge=0, description="US dollars; needs endpoints with prices.", examples=[2.5]
    )
    max_tokens: int | None = Field(
        default=None, ge=0, description="Prompt and answer tokens together.", examples=[2_000_000]
    )
    max_requests: int | None = Field(
        default=None, ge=0, description="Requests sent.", examples=[10_000]
    )


class ExplainSpec(Spec):
    """Explain features of one SAE, or score explanations of them, or both."""

    kind: Literal["explain"] = "explain"
    model_id: Annotated[str, AfterValidator(check_model_id)] = Field(
        description="Id of the model.", examples=["smollm2-135m-instruct"]
    )
    sae_id: Annotated[str, AfterValidator(check_sae_id)] = Field(
        description="Id of the SAE.", examples=["15-demo-res-4k"]
    )
    harvest_id: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Harvest that the contexts come from; null takes the newest at submission.",
        examples=[3],
    )
    features: FeatureSelection = Field(
        description="Which features.", examples=[{"by": "list", "indices": [2511]}]
    )
    explainer: ExplainerSetting | None = Field(
        default_factory=ExplainerSetting,
        description="How to explain; null only scores what is there.",
    )
    scorer: ScorerSetting | None = Field(
        default_factory=ScorerSetting, description="How to score; null only explains."
    )
    budget: RunBudget = Field(default_factory=RunBudget, description="When to stop.")
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="Of every draw of contexts.", examples=[0]
    )

    @model_validator(mode="after")
    def _has_work(self) -> "ExplainSpec":
        if self.explainer is None and self.scorer is None:
            raise ValueError("nothing to do: give an explainer, a scorer, or both")
        choosing = self.explainer is not None and self.explainer.choose_best
        if choosing and (self.scorer is None or self.scorer.chooser is None):
            raise ValueError("choosing the best sample needs an endpoint that tests them")
        if self.explainer is None and self.scorer is not None and not self.scorer.existing:
            raise ValueError("without an explainer, name which existing explanations to score")
        return self
