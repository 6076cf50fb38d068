"""Bodies about explanations and their scores."""

from datetime import datetime
from typing import Self

from pydantic import Field

from app.api.schemas.base import Request, Schema
from core.domain.explanation import (
    EvidenceStyle,
    ExplanationMethod,
    FailureCode,
    Floor,
    Measure,
    Metric,
    Missing,
    Score,
    ScoreKind,
    SimulationMode,
)
from core.domain.llm import Message
from core.domain.views_explain import (
    ExplanationCard,
    ExplanationDetails,
    JudgedExample,
    ScoreCard,
    ScoreDetails,
    SimulatedExample,
)


class MessageBody(Schema):
    """One message of a chat prompt."""

    role: str = Field(description="system, user or assistant.", examples=["user"])
    content: str = Field(description="Its text.", examples=["Neuron 4\nActivations: …"])

    @classmethod
    def all_of(cls, messages: tuple[Message, ...]) -> list[Self]:
        """Bodies of messages, in order."""
        return [cls(role=message.role.value, content=message.content) for message in messages]


class MeasureBody(Schema):
    """A metric's value, or the reason why there is none."""

    value: float | None = Field(description="The value; null when there is none.", examples=[0.71])
    missing: Missing | None = Field(
        default=None, description="Why there is no value; null when there is one."
    )
    low: float | None = Field(
        default=None,
        description="Low end of the 95 % bootstrap interval; null if not computed.",
        examples=[0.58],
    )
    high: float | None = Field(
        default=None, description="High end of that interval.", examples=[0.8]
    )

    @classmethod
    def of(cls, measure: Measure) -> Self:
        """The body of a measure."""
        interval = measure.interval
        return cls(
            value=measure.value,
            missing=measure.missing,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
        )


def _metrics(score: Score) -> dict[Metric, MeasureBody]:
    return {metric: MeasureBody.of(measure) for metric, measure in score.metrics.items()}


_MEASURE = {"value": 0.71, "low": 0.58, "high": 0.8}
_FLOOR = {"value": 0.05}


class ScoreBody(Schema):
    """How well an explanation does, beside what it must beat."""

    score_id: int = Field(description="Number of the score.", examples=[31])
    explanation_id: int = Field(description="What was scored.", examples=[12])
    kind: ScoreKind = Field(description="Kind of test.", examples=["simulation"])
    mode: SimulationMode | None = Field(
        description="How it simulated; scores of different modes are not comparable. Null for "
        "judging.",
        examples=["all_at_once"],
    )
    is_baseline: bool = Field(
        description="Whether a table predicted, not a language model.", examples=[False]
    )
    judge: str = Field(description="Model that simulated or judged.", examples=["qwen3-8b"])
    headline: Metric = Field(
        description="The metric that stands for this kind.", examples=["top_and_random"]
    )
    metrics: dict[Metric, MeasureBody] = Field(
        description="Every metric of the kind.", examples=[{"top_and_random": _MEASURE}]
    )
    floors: dict[Floor, dict[Metric, MeasureBody]] = Field(
        description="The same metrics on the same records for what a score must beat.",
        examples=[{"shuffled": {"top_and_random": _FLOOR}}],
    )
    shuffled_with: str = Field(
        description="Explanation behind the shuffled floor; empty without it.",
        examples=["years of the twentieth century"],
    )
    n: int = Field(description="Contexts asked about.", examples=[10])
    n_ok: int = Field(description="Contexts answered.", examples=[10])
    coverage: float = Field(description="Their share; below 0.8 no value.", examples=[1.0])
    failures: dict[FailureCode, int] = Field(
        description="Contexts that failed, by code.", examples=[{}]
    )
    template: str = Field(
        description="Name, version and hash of the prompt template.",
        examples=["simulate_text/en/v1/1a2b3c4d5e6f"],
    )
    endpoint_id: int | None = Field(description="Endpoint that was asked.", examples=[1])
    job_id: int | None = Field(description="Job that made it.", examples=[7])
    created_at: datetime = Field(description="When.", examples=["2026-11-20T10:00:00Z"])

    @classmethod
    def of(cls, card: ScoreCard) -> Self:
        """The body of a score."""
        score = card.score
        return cls(
            score_id=card.score_id,
            explanation_id=card.explanation_id,
            kind=score.kind,
            mode=score.mode,
            is_baseline=card.is_baseline,
            judge=score.judge,
            headline=card.metric,
            metrics=_metrics(score),
            floors={floor: _metrics(under) for floor, under in score.floors.items()},
            shuffled_with=card.shuffled_with,
            n=score.n,
            n_ok=score.n_ok,
            coverage=score.coverage,
            failures=dict(score.failures),
            template=score.template,
            endpoint_id=card.endpoint_id,
            job_id=card.job_id,
            created_at=card.created_at,
        )


class ChoiceBody(Schema):
    """How one of several samples did on contexts that nothing is scored on."""

    chosen: bool = Field(description="Whether it was the best.", examples=[True])
    rank: int = Field(description="Place among the samples, from 1.", examples=[1])
    of: int = Field(description="Samples.", examples=[3])
    kind: ScoreKind = Field(description="By what they were compared.", examples=["simulation"])
    metric: Metric = Field(description="What was compared.", examples=["top_and_random"])
    value: float | None = Field(description="What it reached.", examples=[0.41])
    missing: Missing | None = Field(description="Why there is no value.", examples=[None])
    n_contexts: int = Field(description="Contexts compared on.", examples=[10])


class ExplanationBody(Schema):
    """An explanation of a feature with its scores."""

    explanation_id: int = Field(description="Number of the explanation.", examples=[12])
    feature: str = Field(
        description="What it explains.", examples=["smollm2-135m-instruct/15-demo-res-4k/2511"]
    )
    text: str = Field(description="One line.", examples=["the word river"])
    method: ExplanationMethod = Field(description="How it came about.", examples=["llm"])
    is_baseline: bool = Field(
        description="Whether the token lookup table wrote it, not a model or a person.",
        examples=[False],
    )
    author: str = Field(description="Model, person or table.", examples=["qwen3-8b"])
    style: EvidenceStyle | None = Field(
        description="What the explainer saw; null for people and tables.", examples=["records"]
    )
    language: str = Field(description="Of the prompt; empty without one.", examples=["en"])
    template: str = Field(
        description="Name, version and hash of the prompt template; empty without one.",
        examples=["explain_records/en/v1/1a2b3c4d5e6f"],
    )
    n_records: int = Field(description="Contexts shown to the explainer.", examples=[5])
    harvest_id: int | None = Field(description="Harvest they come from.", examples=[3])
    endpoint_id: int | None = Field(description="Endpoint that was asked.", examples=[1])
    job_id: int | None = Field(description="Job that made it.", examples=[7])
    sample: int = Field(description="Number among samples of one prompt.", examples=[0])
    version: int = Field(description="An edit must name it.", examples=[1])
    superseded_by: int | None = Field(
        description="The edit that took its place; null for a current one.", examples=[None]
    )
    choice: ChoiceBody | None = Field(
        description="How it did among several samples; null where nothing was chosen.",
        examples=[None],
    )
    created_at: datetime = Field(description="When.", examples=["2026-11-20T10:00:00Z"])
    scores: list[ScoreBody] = Field(description="The newest first.")

    @classmethod
    def of(cls, card: ExplanationCard) -> Self:
        """The body of an explanation."""
        made = card.explanation
        return cls(
            explanation_id=card.explanation_id,
            feature=str(card.feature),
            text=made.text,
            method=made.method,
            is_baseline=card.is_baseline,
            author=made.author,
            style=made.style,
            language=card.language,
            template=made.template,
            n_records=made.n_records,
            harvest_id=card.harvest_id,
            endpoint_id=card.endpoint_id,
            job_id=card.job_id,
            sample=card.sample,
            version=card.version,
            superseded_by=card.superseded_by,
            choice=None if card.choice is None else ChoiceBody.model_validate(card.choice),
            created_at=card.created_at,
            scores=[ScoreBody.of(score) for score in card.scores],
        )


class ExplanationList(Schema):
    """Explanations."""

    explanations: list[ExplanationBody] = Field(description="The newest, or the best, first.")


class WrittenList(Schema):
    """Explanations that a run wrote."""

    explanations: list[ExplanationBody] = Field(description="The newest first.")
    previous_after: int | None = Field(
        description="Give it as after for newer ones; null on the first page.",
        examples=[None],
    )
    next_before: int | None = Field(
        description="Give it as before for older ones; null at the end.", examples=[310]
    )


class ExplanationDetailBody(Schema):
    """An explanation with what it was made from."""

    explanation: ExplanationBody = Field(description="The explanation.")
    messages: list[MessageBody] = Field(description="Exactly as they were sent.")
    context_indices: list[int] = Field(
        description="Contexts of its harvest that the explainer saw.", examples=[[4, 17]]
    )

    @classmethod
    def of(cls, details: ExplanationDetails) -> Self:
        """The body of an explanation's details."""
        return cls(
            explanation=ExplanationBody.of(details.card),
            messages=MessageBody.all_of(details.messages),
            context_indices=list(details.context_indices),
        )


class FailureBody(Schema):
    """Why something has no answer."""

    code: FailureCode = Field(description="Stable name of the kind.", examples=["parse"])
    message: str = Field(description="What happened.", examples=["No list of numbers."])
    raw: str = Field(description="The answer as it came, if any.", examples=["I think so"])


class SimulatedBody(Schema):
    """One context with real and simulated activations."""

    context_index: int = Field(description="Number in its harvest.", examples=[17])
    group: str = Field(
        description="top, random or calibration; the last is not scored.", examples=["top"]
    )
    tokens: list[str] = Field(description="Texts of the tokens.", examples=[[" the", " river"]])
    real: list[float] = Field(description="Raw activations.", examples=[[0.0, 6.5]])
    simulated: list[float | None] | None = Field(
        description="On the simulator's scale; null for what failed.", examples=[[0.2, 9.1]]
    )
    scale_top: int = Field(description="Largest number of that scale.", examples=[10])
    failure: FailureBody | None = Field(description="Why there is no simulation.")

    @classmethod
    def of(cls, example: SimulatedExample) -> Self:
        """The body of an example."""
        return cls.model_validate(example)


class JudgedBody(Schema):
    """One context with the right answer and the judge's verdict."""

    context_index: int = Field(description="Number in its harvest.", examples=[17])
    tokens: list[str] = Field(description="Texts of the tokens.", examples=[[" the", " river"]])
    real: list[float] = Field(description="Raw activations.", examples=[[0.0, 6.5]])
    marked: list[int] | None = Field(
        description="Marked positions, for fuzzing; null for detection.", examples=[None]
    )
    label: bool = Field(description="The right answer.", examples=[True])
    verdict: bool | None = Field(description="The judge's; null if it failed.", examples=[True])
    probability: float | None = Field(description="Of yes; null if unknown.", examples=[0.93])
    similarity: float | None = Field(
        description="Cosine with the explanation, for embedding; null for judges.", examples=[None]
    )
    failure: FailureBody | None = Field(description="Why there is no verdict.")

    @classmethod
    def of(cls, example: JudgedExample) -> Self:
        """The body of an example."""
        return cls.model_validate(example)


class ScoreDetailBody(Schema):
    """A score with every example behind it."""

    score: ScoreBody = Field(description="The score.")
    explanation: ExplanationBody = Field(description="What was scored.")
    simulated: list[SimulatedBody] = Field(description="Simulated contexts; empty for judging.")
    judged: list[JudgedBody] = Field(description="Judged contexts; empty for simulation.")

    @classmethod
    def of(cls, details: ScoreDetails) -> Self:
        """The body of a score's details."""
        return cls(
            score=ScoreBody.of(details.card),
            explanation=ExplanationBody.of(details.explanation),
            simulated=[SimulatedBody.of(example) for example in details.simulated],
            judged=[JudgedBody.of(example) for example in details.judged],
        )


class NewExplanation(Request):
    """A person's explanation."""

    text: str = Field(
        min_length=1, max_length=2_000, description="One sentence.", examples=["the word river"]
    )
    author: str = Field(default="", max_length=80, description="Who says so.", examples=["Ann"])


class ChangedExplanation(NewExplanation):
    """A person's new text in place of an explanation."""

    version: int = Field(
        ge=1, description="Of the explanation as it was read; 409 if it moved on.", examples=[1]
    )
