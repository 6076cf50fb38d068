"""Read models of explanations, their scores, runs and endpoints: complete, frozen, nothing lazy."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.domain.activation import Band
from core.domain.explain_job import RunBudget
from core.domain.explanation import (
    Choice,
    EvidenceStyle,
    Explanation,
    ExplanationMethod,
    Failure,
    Floor,
    Measure,
    Metric,
    Missing,
    Score,
    ScoreKind,
    SimulationMode,
)
from core.domain.ids import FeatureId
from core.domain.job import JobCard
from core.domain.llm import Message

HEADLINES = {
    ScoreKind.SIMULATION: Metric.TOP_AND_RANDOM,
    ScoreKind.DETECTION: Metric.BALANCED_ACCURACY,
    ScoreKind.FUZZING: Metric.BALANCED_ACCURACY,
    ScoreKind.EMBEDDING: Metric.AUROC,
}
NOTHING = Measure(value=None, missing=Missing.NOT_APPLICABLE)


class KeySource(StrEnum):
    """Where an endpoint's API key comes from; the key itself is never shown."""

    NONE = "none"
    STORED = "stored"  # in the database, encrypted
    ENVIRONMENT = "environment"  # in a variable of the processes' environment


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAbilities:
    """What an endpoint's server can do, found by a probe of what it answers.

    Attributes:
        served_as: name the server answers with.
        chat_logprobs: alternatives seen at a generated token; 0 for none.
        prompt_logprobs: ``none``, ``by_text``, ``by_id`` or ``native``: by id, SGLang's own way.
        json_schema: whether a schema is enforced.
        ten_is_one_token: None when nothing told.
        modes: ways to simulate that work, best first.
        scale_top: largest number of the simulator's scale, 9 or 10.
        context_limit: tokens of prompt and answer; None when the server does not say.
        embedding_size: numbers in an embedding; 0 where texts are not embedded.
        notes: sentences on what was seen.
    """

    served_as: str
    chat: bool
    chat_logprobs: int
    prompt_logprobs: str
    json_schema: bool
    tokenizer: bool
    ten_is_one_token: bool | None
    modes: tuple[SimulationMode, ...]
    scale_top: int
    context_limit: int | None
    embedding_size: int
    notes: tuple[str, ...]
    probed_at: datetime

    @property
    def usable(self) -> bool:
        """Whether it can do anything that is asked for here: explain, simulate, judge or embed."""
        return bool(self.modes) or self.embedding_size > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCard:
    """One model at one OpenAI-compatible address.

    Attributes:
        key_variable: name of the environment's variable; empty for other sources.
        price_prompt, price_completion, price_cached: US dollars a million tokens; None unknown.
        abilities: None until the connection was tested.
    """

    endpoint_id: int
    name: str
    base_url: str
    model: str
    key_source: KeySource
    key_variable: str
    concurrency: int
    timeout_seconds: float
    attempts: int
    tokens_field: str
    extra_tokens: int
    with_sampling: bool
    price_prompt: float | None
    price_completion: float | None
    price_cached: float | None
    abilities: EndpointAbilities | None
    created_at: datetime

    @property
    def has_prices(self) -> bool:
        """Whether what a request costs is known."""
        return self.price_prompt is not None and self.price_completion is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCard:
    """A score with its floors (``score.floors``), as stored.

    Attributes:
        endpoint_id: None when no endpoint was asked, or it was deleted.
        shuffled_with: text of the other feature's explanation behind the shuffled floor; empty
            without that floor.
    """

    score_id: int
    explanation_id: int
    score: Score
    endpoint_id: int | None
    job_id: int | None
    shuffled_with: str
    created_at: datetime

    @property
    def metric(self) -> Metric:
        """The metric that stands for this kind of score."""
        return HEADLINES[self.score.kind]

    @property
    def headline(self) -> Measure:
        """The value of that metric, or why there is none."""
        return self.score.metrics.get(self.metric, NOTHING)

    def floor(self, floor: Floor) -> Measure:
        """The same metric for a floor; a reason when there is no such floor."""
        under = self.score.floors.get(floor)
        return NOTHING if under is None else under.metrics.get(self.metric, NOTHING)

    @property
    def is_baseline(self) -> bool:
        """Whether a table predicted, not a language model."""
        return self.score.mode is SimulationMode.TOKEN_LOOKUP


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationCard:
    """An explanation of a feature with its scores.

    Attributes:
        explanation: text, method, author, style and template.
        language: of the prompt; empty for people and imports.
        harvest_id: harvest whose contexts it was made from; None for people and imports.
        sample: number among the samples of one prompt, from 0.
        version: 1, and one more with every edit; an edit must name it.
        superseded_by: the edit that took its place; None for a current one.
        choice: how it did among several samples; None where nothing was chosen.
        scores: the newest first.
    """

    explanation_id: int
    feature: FeatureId
    explanation: Explanation
    language: str
    harvest_id: int | None
    endpoint_id: int | None
    job_id: int | None
    sample: int
    version: int
    superseded_by: int | None
    created_at: datetime
    choice: Choice | None = None
    scores: tuple[ScoreCard, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether the token lookup table wrote it, not a language model or a person."""
        return self.explanation.method is ExplanationMethod.TOKEN_LOOKUP


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationDetails:
    """An explanation with what it was made from.

    Attributes:
        messages: exactly as they were sent; empty where nothing was.
        context_indices: contexts of its harvest that the explainer saw.
    """

    card: ExplanationCard
    messages: tuple[Message, ...]
    context_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedExample:
    """One context with real and simulated activations, token by token.

    Attributes:
        group: ``top``, ``random`` or ``calibration``; the last is not scored.
        real: raw activations.
        simulated: on the simulator's scale, 0 to scale_top; None for tokens that failed alone;
            the whole is None when the context failed.
        failure: why the context has no simulation.
    """

    context_index: int
    band: Band
    group: str
    tokens: tuple[str, ...]
    real: tuple[float, ...]
    simulated: tuple[float | None, ...] | None
    scale_top: int
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedExample:
    """One context with the right answer and the judge's verdict.

    Attributes:
        marked: marked positions, for fuzzing; None for detection.
        label: the right answer.
        verdict: what the judge said; None when it failed, or when nothing was judged.
        probability: of yes; None when unknown.
        similarity: cosine between the embeddings of explanation and context; None for judges.
    """

    context_index: int
    tokens: tuple[str, ...]
    real: tuple[float, ...]
    marked: tuple[int, ...] | None
    label: bool
    verdict: bool | None
    probability: float | None
    failure: Failure | None
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDetails:
    """A score with every example behind it."""

    card: ScoreCard
    explanation: ExplanationCard
    simulated: tuple[SimulatedExample, ...]
    judged: tuple[JudgedExample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What requests used.

    Attributes:
        requests: answered or failed, those from the cache included.
        attempts: times something was sent; failed attempts may be billed too.
        cost: US dollars, 0 where nothing was sent; None when no price is known.
    """

    requests: int = 0
    from_cache: int = 0
    failed: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """One run of explanations.

    Attributes:
        n_explanations: explanations it made.
        n_scores: scores it made, those without a value included.
        failures: explanations and scores that failed whole, by code.
        item_failures: contexts that failed inside scores, by code.
    """

    job: JobCard
    model_id: str
    sae_id: str
    harvest_id: int | None
    budget: RunBudget
    n_explanations: int
    n_scores: int
    failures: Mapping[str, int]
    item_failures: Mapping[str, int]
    spending: Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDistribution:
    """Headline values of scores that can be compared: one layer, method, kind and mode.

    Attributes:
        style: None for people, imports and the lookup table.
        judge: name of the model that simulated or judged.
        n: scores, those without a value included.
        missing: scores without a value, by reason.
        values: ascending.
        floors: median of each floor's headline; absent where no score has one.
    """

    model_id: str
    sae_id: str
    layer: int | None
    method: ExplanationMethod
    style: EvidenceStyle | None
    kind: ScoreKind
    mode: SimulationMode | None
    judge: str
    metric: Metric
    n: int
    missing: Mapping[Missing, int]
    values: tuple[float, ...]
    floors: Mapping[Floor, float]

    @property
    def median(self) -> float | None:
        """The middle value; None without values."""
        if not self.values:
            return None
        middle = len(self.values) // 2
        if len(self.values) % 2:
            return self.values[middle]
        return (self.values[middle - 1] + self.values[middle]) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A run with its scores' distributions."""

    card: RunCard
    distributions: tuple[ScoreDistribution, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationSlice:
    """Explanations of one page, the newest first, and its neighbours' places; None without one."""

    cards: tuple[ExplanationCard, ...]
    previous_after: int | None
    next_before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundExplanation:
    """An explanation found by words in it."""

    card: ExplanationCard
    rank: float
