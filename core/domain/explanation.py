"""Explanations, what was simulated or judged from them, and their scores.

A failure is a value like any other: it has a code, is stored, shown and counted, and never becomes
a zero, an empty text or a missing row.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Number = float | int
"""A real number as a caller may write it; 2 is as good as 2.0."""

T = TypeVar("T")

MIN_COVERAGE = 0.8


class FailureCode(StrEnum):
    """Why something has no answer; stable, shown and counted."""

    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"  # paid-up credit or the provider's own limit is used up
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER = "server"
    AUTH = "auth"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    LENGTH = "length"  # the answer was cut at its token limit
    PARSE = "parse"  # the answer cannot be read
    COUNT = "count"  # the answer has another number of items than was asked for
    NO_LOGPROBS = "no_logprobs"  # the server left the log-probabilities out
    NO_DIGITS = "no_digits"  # no activation value among the likeliest tokens
    BUDGET = "budget"  # the run's budget is used up
    OFFLINE = "offline"  # not in the cache, and only the cache may be asked
    CANCELLED = "cancelled"
    UNSUPPORTED = "unsupported"  # the server lacks an ability that is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that has no answer, and why.

    Attributes:
        message: one sentence with what happened.
        raw: the answer as it came, if there was one.
    """

    code: FailureCode
    message: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Something that was answered."""

    value: T


Outcome = Answer[T] | Failure


class EvidenceStyle(StrEnum):
    """What an explainer is shown."""

    RECORDS = "records"  # rows token<tab>activation
    HIGHLIGHTS = "highlights"  # contexts with marked tokens, in delphi's manner
    TOKENS_AND_LOGITS = "tokens_and_logits"  # top tokens and what the feature promotes


class ExplanationMethod(StrEnum):
    """How an explanation came about."""

    LLM = "llm"
    TOKEN_LOOKUP = "token_lookup"  # noqa: S105 - offline baseline, no language model
    HUMAN = "human"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One sentence on what a feature fires on.

    Attributes:
        text: one line, at most 300 characters.
        author: model name, user name, or ``token lookup``.
        style: what the explainer saw; None for people and imports.
        template: name, version and hash of the prompt template; empty without one.
        n_records: records shown.
    """

    text: str
    method: ExplanationMethod
    author: str
    style: EvidenceStyle | None = None
    template: str = ""
    n_records: int = 0


class ScoreKind(StrEnum):
    """By what an explanation is tested."""

    SIMULATION = "simulation"
    DETECTION = "detection"
    FUZZING = "fuzzing"
    EMBEDDING = "embedding"


class Metric(StrEnum):
    """One number of a score."""

    TOP_AND_RANDOM = "top_and_random"  # Pearson over pooled top and random contexts
    RANDOM_ONLY = "random_only"  # Pearson over random contexts
    CALIBRATED_R2 = "calibrated_r2"  # centred R² after a line fitted on other contexts
    BALANCED_ACCURACY = "balanced_accuracy"
    F1 = "f1"
    PRECISION = "precision"
    RECALL = "recall"
    AUROC = "auroc"


class Floor(StrEnum):
    """What a score must beat to mean anything, measured on the same records."""

    SHUFFLED = "shuffled"  # the explanation of another feature
    TOKEN_LOOKUP = "token_lookup"  # noqa: S105 - mean activation of each token
    CONSTANT = "constant"  # the same prediction everywhere


class SimulationMode(StrEnum):
    """How activations were simulated; scores of different modes are not comparable."""

    ALL_AT_ONCE = "all_at_once"
    ONE_AT_A_TIME = "one_at_a_time"
    SCHEMA = "schema"
    TOKEN_LOOKUP = "token_lookup"  # noqa: S105 - offline baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Activations of one context as predicted from an explanation.

    Attributes:
        values: expected value of each token on the simulator's scale, from 0; None where that
            token alone failed.
        scale_top: largest number of the scale: 10, or 9 where "10" is two tokens.
        mass: mean share of probability that fell on numbers; None without log-probabilities.
            Below 0.5 the simulator hardly answered the question.
        judge: name of the simulating model.
    """

    values: tuple[float | None, ...]
    mode: SimulationMode
    scale_top: int
    mass: float | None
    judge: str


class Missing(StrEnum):
    """Why a metric has no value."""

    LOW_COVERAGE = "low_coverage"  # fewer than 80 % of the items were answered
    NOTHING_ANSWERED = "nothing_answered"
    CONSTANT_PREDICTION = "constant_prediction"
    CONSTANT_TRUTH = "constant_truth"
    ONE_CLASS = "one_class"  # only activating, or only silent, contexts
    NO_PROBABILITIES = "no_probabilities"
    NO_CALIBRATION = "no_calibration"
    NOTHING_POSITIVE = "nothing_positive"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What became of one of several samples of an explanation, and why.

    The samples were compared on calibration contexts, on which nothing is scored afterwards.

    Attributes:
        chosen: whether it was the best; of equals the first is.
        rank: place among the samples, from 1.
        of: how many samples there were.
        kind: by what they were compared.
        value: what it reached; None with a reason in ``missing``.
        n_contexts: contexts that they were compared on.
    """

    chosen: bool
    rank: int
    of: int
    kind: ScoreKind
    metric: Metric
    value: float | None
    missing: Missing | None
    n_contexts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval of confidence, ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A metric's value, or the reason why there is none.

    Attributes:
        value: finite number, or None.
        missing: why there is no value; None when there is one.
        interval: 95 % bootstrap interval over contexts, if computed.
    """

    value: float | None
    missing: Missing | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well one explanation, or one floor, does on a set of records.

    Attributes:
        metrics: every metric of this kind, each with a value or a reason.
        n: items asked about: contexts.
        n_ok: items answered.
        failures: how many items failed, by code; sums to n - n_ok.
        judge: name of the model that simulated or judged, as the server returned it.
        mode: how it simulated; None when it judged.
        template: name, version and hash of the prompt template.
        floors: the same metrics for what a score must beat, on the same records.
    """

    kind: ScoreKind
    metrics: Mapping[Metric, Measure]
    n: int
    n_ok: int
    failures: Mapping[FailureCode, int]
    judge: str
    mode: SimulationMode | None = None
    template: str = ""
    floors: Mapping[Floor, "Score"] = field(default_factory=dict)

    @property
    def coverage(self) -> float:
        """Share of the items that were answered; 0 without items."""
        return self.n_ok / self.n if self.n else 0.0


def count_failures(outcomes: Iterable[Outcome[T]]) -> dict[FailureCode, int]:
    """How many outcomes failed, by code, commonest first."""
    counts = Counter(o.code for o in outcomes if isinstance(o, Failure))
    return dict(counts.most_common())


def missing_for_coverage(*, n: int, n_ok: int) -> Missing | None:
    """Why n_ok of n items are too few for a score; None when they are enough.

    >>> missing_for_coverage(n=10, n_ok=8), missing_for_coverage(n=10, n_ok=7)
    (None, <Missing.LOW_COVERAGE: 'low_coverage'>)
    """
    if n_ok == 0:
        return Missing.NOTHING_ANSWERED
    return Missing.LOW_COVERAGE if n_ok < MIN_COVERAGE * n else None
