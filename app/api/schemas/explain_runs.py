"""Bodies about runs of explanations: estimates, previews, results and live steps."""

from typing import Annotated, Self

from pydantic import Field

from app.api.schemas.base import Request, Schema
from app.api.schemas.explanations import ExplanationBody, MessageBody, ScoreBody
from app.api.schemas.jobs import JobBody
from app.services.explain.estimate import RunEstimate
from app.services.explain.live import LiveKind, LiveStep
from app.services.explain.runs import Preview
from core.domain.explain_job import ExplainerSetting, RunBudget, ScorerSetting
from core.domain.explanation import (
    EvidenceStyle,
    ExplanationMethod,
    Floor,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)
from core.domain.views_explain import RunCard, RunPage, ScoreDistribution
from core.explaining.cost import Cost


class CostBody(Schema):
    """Requests and the most that they use."""

    requests: float = Field(description="Requests.", examples=[120.0])
    prompt_tokens: float = Field(description="Prompt tokens at most.", examples=[96_000.0])
    completion_tokens: float = Field(description="Answer tokens at most.", examples=[4_000.0])
    cost: float | None = Field(
        description="US dollars at most; null if a price is unknown.", examples=[0.05]
    )

    @classmethod
    def of(cls, cost: Cost) -> Self:
        """The body of a cost."""
        return cls.model_validate(cost)


class OverflowBody(Schema):
    """A request that may not fit into an endpoint's context; what does not fit fails."""

    endpoint: str = Field(description="The endpoint's name.", examples=["local llama"])
    tokens: int = Field(
        description="Of the largest request with its answer, at most.", examples=[5_700]
    )
    limit: int = Field(description="Tokens that the context holds.", examples=[4_096])


class RunEstimateBody(Schema):
    """What a run will ask and use at most, before it asks anything."""

    n_features: int = Field(description="Features chosen.", examples=[100])
    n_explanations: int = Field(description="Explanations that will be made.", examples=[100])
    n_scores: int = Field(description="Scores that will be made.", examples=[300])
    n_sampled: int = Field(description="Features whose prompts were counted.", examples=[4])
    mode: SimulationMode | None = Field(
        description="How it will simulate; null without an endpoint.", examples=["all_at_once"]
    )
    mode_is_assumed: bool = Field(
        description="The endpoint was not tested yet, so the mode is a guess.", examples=[False]
    )
    explaining: CostBody = Field(description="Of the explanations.")
    scoring: CostBody = Field(description="Of the scores with their floors.")
    total: CostBody = Field(description="Of both.")
    over_budget: bool = Field(
        description="The budget may stop the run before its end.", examples=[False]
    )
    seconds: float = Field(
        description="Time that the requests take if nothing fails.", examples=[380.0]
    )
    time_is_measured: bool = Field(
        description="By earlier answers of the endpoints; else two seconds an answer are assumed.",
        examples=[True],
    )
    overflow: OverflowBody | None = Field(
        description="Null when every request fits, or no endpoint told its limit.",
        examples=[None],
    )

    @classmethod
    def of(cls, found: RunEstimate) -> Self:
        """The body of an estimate."""
        return cls.model_validate(found)


class PreviewRequest(Request):
    """Which prompt to show."""

    style: EvidenceStyle = Field(
        default=EvidenceStyle.RECORDS, description="What the explainer is shown."
    )
    explainer: ExplainerSetting = Field(
        default_factory=ExplainerSetting, description="Language, records and temperature."
    )
    harvest_id: int | None = Field(
        default=None, ge=1, description="Null for the newest.", examples=[3]
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the draws.", examples=[0])


class PreviewBody(Schema):
    """Exactly what an explainer would be sent."""

    messages: list[MessageBody] = Field(description="In order.")
    template: str = Field(
        description="Name, version and hash of the template.",
        examples=["explain_records/en/v1/1a2b3c4d5e6f"],
    )
    prompt_tokens: int = Field(description="At most.", examples=[1_800])
    context_indices: list[int] = Field(
        description="Contexts that the explainer would see.", examples=[[4, 17]]
    )

    @classmethod
    def of(cls, found: Preview) -> Self:
        """The body of a preview."""
        return cls(
            messages=MessageBody.all_of(found.messages),
            template=found.template,
            prompt_tokens=found.prompt_tokens,
            context_indices=list(found.context_indices),
        )


class LiveRequest(Request):
    """How to explain and score one feature at once."""

    explainer: ExplainerSetting | None = Field(
        default_factory=ExplainerSetting, description="Null only scores what is there."
    )
    scorer: ScorerSetting | None = Field(default=None, description="Null only explains.")
    harvest_id: int | None = Field(
        default=None, ge=1, description="Null for the newest.", examples=[3]
    )
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Of the draws.", examples=[0])] = 0


class LiveStepBody(Schema):
    """One thing that happened."""

    kind: LiveKind = Field(description="What the step tells.", examples=["explained"])
    messages: list[MessageBody] = Field(description="As they are sent; only when asked.")
    explanation: ExplanationBody | None = Field(
        description="When explained, tested or scored: of what."
    )
    samples: list[ExplanationBody] = Field(
        description="When chosen: the samples of one prompt, the best first."
    )
    test: ScoreKind | None = Field(
        description="When a test or a comparison begins: its kind.", examples=["simulation"]
    )
    score: ScoreBody | None = Field(description="When scored.")
    code: str = Field(description="When failed: kind of failure.", examples=[""])
    message: str = Field(description="When failed: what happened.", examples=[""])
    hint: str = Field(description="When failed: how to mend it.", examples=[""])

    @classmethod
    def of(cls, step: LiveStep) -> Self:
        """The body of a step."""
        explained = step.explanation
        return cls(
            kind=step.kind,
            messages=MessageBody.all_of(step.messages),
            explanation=None if explained is None else ExplanationBody.of(explained),
            samples=[ExplanationBody.of(card) for card in step.samples],
            test=step.test,
            score=None if step.score is None else ScoreBody.of(step.score),
            code=step.code,
            message=step.message,
            hint=step.hint,
        )


class SpendingBody(Schema):
    """What requests used."""

    requests: int = Field(description="Requests, stored answers included.", examples=[1_200])
    from_cache: int = Field(description="Of them answered by stored answers.", examples=[30])
    failed: int = Field(description="Of them failed.", examples=[2])
    attempts: int = Field(description="Times something was sent.", examples=[1_180])
    prompt_tokens: int = Field(description="Prompt tokens sent.", examples=[960_000])
    completion_tokens: int = Field(description="Answer tokens received.", examples=[40_000])
    cost: float | None = Field(description="US dollars; null if unknown.", examples=[0.45])


class RunBody(Schema):
    """One run of explanations."""

    job: JobBody = Field(description="Its job.")
    model_id: str = Field(description="The model.", examples=["smollm2-135m-instruct"])
    sae_id: str = Field(description="The SAE.", examples=["15-demo-res-4k"])
    harvest_id: int | None = Field(description="Where contexts come from.", examples=[3])
    budget: RunBudget = Field(description="When it stops.")
    n_explanations: int = Field(description="Explanations made.", examples=[100])
    n_scores: int = Field(description="Scores made, those without a value too.", examples=[300])
    failures: dict[str, int] = Field(
        description="Explanations and scores that failed whole, by code.", examples=[{"refusal": 1}]
    )
    item_failures: dict[str, int] = Field(
        description="Contexts that failed inside scores, by code.", examples=[{"parse": 3}]
    )
    spending: SpendingBody = Field(description="What it used, over all attempts.")

    @classmethod
    def of(cls, card: RunCard) -> Self:
        """The body of a run."""
        return cls(
            job=JobBody.of(card.job),
            model_id=card.model_id,
            sae_id=card.sae_id,
            harvest_id=card.harvest_id,
            budget=card.budget,
            n_explanations=card.n_explanations,
            n_scores=card.n_scores,
            failures=dict(card.failures),
            item_failures=dict(card.item_failures),
            spending=SpendingBody.model_validate(card.spending),
        )


class RunList(Schema):
    """One page of the runs."""

    runs: list[RunBody] = Field(description="The newest first.")
    previous_after: int | None = Field(
        description="Value of after for the page before; null on the first.", examples=[9]
    )
    next_before: int | None = Field(
        description="Value of before for the next page; null on the last.", examples=[7]
    )


class DistributionBody(Schema):
    """Headline values of scores that can be compared."""

    model_id: str = Field(description="The model.", examples=["smollm2-135m-instruct"])
    sae_id: str = Field(description="The SAE.", examples=["15-demo-res-4k"])
    layer: int | None = Field(description="Its layer.", examples=[15])
    method: ExplanationMethod = Field(description="Of the explanations.", examples=["llm"])
    style: EvidenceStyle | None = Field(description="What explainers saw.", examples=["records"])
    kind: ScoreKind = Field(description="Kind of test.", examples=["simulation"])
    mode: SimulationMode | None = Field(description="How simulated.", examples=["all_at_once"])
    judge: str = Field(description="Who simulated or judged.", examples=["qwen3-8b"])
    metric: Metric = Field(description="What the values are.", examples=["top_and_random"])
    n: int = Field(description="Scores, those without a value too.", examples=[100])
    missing: dict[Missing, int] = Field(
        description="Scores without a value, by reason.", examples=[{"low_coverage": 1}]
    )
    values: list[float] = Field(description="Ascending.", examples=[[0.1, 0.5, 0.8]])
    median: float | None = Field(description="Null without values.", examples=[0.5])
    floors: dict[Floor, float] = Field(
        description="Median of each floor.", examples=[{"shuffled": 0.04}]
    )

    @classmethod
    def of(cls, found: ScoreDistribution) -> Self:
        """The body of a distribution."""
        return cls.model_validate(found)


class RunDetail(Schema):
    """A run with the distributions of its scores."""

    run: RunBody = Field(description="The run.")
    distributions: list[DistributionBody] = Field(description="By layer, method and kind.")

    @classmethod
    def of(cls, page: RunPage) -> Self:
        """The body of a run's page."""
        return cls(
            run=RunBody.of(page.card),
            distributions=[DistributionBody.of(found) for found in page.distributions],
        )


class DistributionList(Schema):
    """Distributions of all scores."""

    distributions: list[DistributionBody] = Field(description="By layer, method and kind.")


class ResumeRequest(Request):
    """How to go on with a run."""

    budget: RunBudget | None = Field(
        default=None, description="The new budget; null keeps the old one."
    )
