"""Jobs: what is to be done, how far it is, and what happened on the way."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeAlias, assert_never

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from core.domain.align_jobs import AlignCheckSpec, ContrastSpec, DriftSpec, FetchSpec
from core.domain.alignment import AlignSpec, SftSpec, method_name, preference_name
from core.domain.corpus import corpus_name
from core.domain.explain_job import ExplainSpec
from core.domain.harvest import HarvestSpec
from core.domain.views import LogLine
from core.errors import Invalid

JobSpec: TypeAlias = Annotated[
    HarvestSpec
    | ExplainSpec
    | AlignSpec
    | SftSpec
    | AlignCheckSpec
    | FetchSpec
    | ContrastSpec
    | DriftSpec,
    Field(discriminator="kind"),
]

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


class JobState(StrEnum):
    """Where a job stands. Cancelling is on its way to cancelled and may still write."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


ACTIVE = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING})
RESUMABLE = frozenset({JobState.CANCELLED, JobState.FAILED, JobState.PAUSED})


class JobQueue(StrEnum):
    """Which resource a job needs."""

    GPU = "gpu"  # the machine's accelerator or all its cores: one job at a time
    LLM = "llm"  # a language-model endpoint or the network: many at a time
    CTL = "ctl"  # housekeeping of the jobs themselves


class EventKind(StrEnum):
    """What an event of a job tells."""

    PROGRESS = "progress"
    METRIC = "metric"
    LOG = "log"
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        done: units done, those of earlier attempts included.
        total: units in all; None while unknown.
        unit: what is counted, plural: contexts, tokens, features.
        rate: units a second over the last half minute of this attempt; None while unknown.
        remaining_seconds: time left at that rate; None while unknown.
        phase: what is being done now, one or two words.
    """

    done: int
    total: int | None
    unit: str
    rate: float | None
    remaining_seconds: float | None
    phase: str

    @property
    def fraction(self) -> float | None:
        """Share done, in [0, 1]; None while the total is unknown or 0.

        >>> Progress(
        ...     done=1, total=4, unit="tokens", rate=None, remaining_seconds=None, phase=""
        ... ).fraction
        0.25
        """
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job failed: a stable code, a sentence, and how to mend it."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """One row of the jobs list.

    Attributes:
        attempt: number of the present or last attempt, from 1; grows with every restart.
        started_at: start of the first attempt since the job was submitted or resumed.
        result: what the handler returned; None before it succeeds.
    """

    job_id: int
    kind: str
    title: str
    state: JobState
    attempt: int
    progress: Progress | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    result: dict[str, JsonValue] | None

    @property
    def active(self) -> bool:
        """Whether something may still happen to it by itself."""
        return self.state in ACTIVE

    @property
    def can_cancel(self) -> bool:
        """Whether it makes sense to ask it to stop."""
        return self.state in {JobState.QUEUED, JobState.RUNNING}

    @property
    def can_resume(self) -> bool:
        """Whether a new attempt may be asked for."""
        return self.state in RESUMABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSlice:
    """Jobs of one page, the newest first, and where its neighbours lie; None without one."""

    jobs: tuple[JobCard, ...]
    previous_after: int | None
    next_before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened in a job.

    Attributes:
        seq: number of the event in its job, from 1, without gaps.
        payload: by kind. progress: the fields of Progress. metric: ``step`` and numbers by name.
            log: ``level`` and ``text``. state: ``state`` and ``attempt``, when it failed or
            paused also ``code``, ``message`` and ``hint``.
    """

    seq: int
    at: datetime
    kind: EventKind
    payload: dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Everything a job's page shows at first; later events come by their seq.

    Attributes:
        spec: the job's settings as they were submitted.
        last_seq: the newest event contained in this page.
        items_done: finished items, e.g. shards.
        log: the newest lines of the log, oldest first.
    """

    card: JobCard
    queue: JobQueue
    spec: dict[str, JsonValue]
    created_by: str | None
    last_seq: int
    items_done: int
    log: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An attempt's right to write: it holds while no other has taken the job over."""

    job_id: int
    attempt: int
    epoch: int


def parse_spec(data: object) -> JobSpec:
    """The settings of a job from JSON values.

    Raises:
        Invalid: a field is missing, unknown or out of range; the message names it.
    """
    try:
        return _SPEC.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"Job settings, {place}: {first['msg']}.") from error


def spec_json(spec: JobSpec) -> dict[str, JsonValue]:
    """The settings of a job as JSON values, every field written out."""
    values: dict[str, JsonValue] = _SPEC.dump_python(spec, mode="json")
    return values


def job_title(spec: JobSpec) -> str:
    """What a job does, in a few words."""
    match spec:
        case HarvestSpec():
            return f"Harvest {spec.model_id} over {corpus_name(spec.corpus)}"
        case ExplainSpec():
            verb = "Score" if spec.explainer is None else "Explain"
            return f"{verb} features of {spec.model_id}/{spec.sae_id}"
        case AlignSpec():
            return f"Align {spec.model_id} with {method_name(spec.method)}"
        case SftSpec():
            return f"Fine-tune {spec.model_id} on conversations"
        case AlignCheckSpec(run=AlignSpec() as run):
            return f"Check the settings of aligning {run.model_id}"
        case AlignCheckSpec(run=run):
            return f"Check the settings of fine-tuning {run.model_id}"
        case FetchSpec():
            return f"Fetch preferences of {spec.data.name}"
        case ContrastSpec():
            return f"Contrast features of {spec.model_id} on {preference_name(spec.data)}"
        case DriftSpec():
            return f"Measure what moved in {spec.aligned_id}"
        case _:
            assert_never(spec)
