"""Bodies about alignment and fine-tuning runs: settings, checks, numbers, comparisons."""

from typing import Annotated, Any, Self

from pydantic import Field, JsonValue

from app.api.schemas.base import Request, Schema
from app.api.schemas.jobs import JobBody
from app.services.align.checks.values import Concern, LaunchReport, Outcome
from app.services.align.constraints import Choice
from app.services.align.runs import Comparison, MovedFeatures, RunCard
from app.services.jobs.metric_history import MetricTable
from core.domain.alignment import AlignSpec, ConstraintSae, SftSpec

Settings = Annotated[AlignSpec | SftSpec, Field(discriminator="kind")]


class RunNumbersBody(Schema):
    """A run with its newest numbers."""

    job: JobBody = Field(description="The job that trains.")
    kind: str = Field(description="align or sft.", examples=["align"])
    model_id: str = Field(description="What it starts from.", examples=["smollm2-135m-instruct"])
    result_id: str = Field(
        description="Id of the model that it makes.", examples=["smollm2-135m-instruct-direct"]
    )
    step: int | None = Field(description="Steps done; null before the first.", examples=[12])
    total_steps: int | None = Field(description="Steps in all; null while unknown.", examples=[12])
    start: dict[str, float] = Field(
        description="The first evaluation.", examples=[{"eval_preference_accuracy": 0.5}]
    )
    evaluated: dict[str, float] = Field(
        description="The newest evaluation.", examples=[{"eval_preference_accuracy": 0.9}]
    )
    stepped: dict[str, float] = Field(
        description="The newest step.", examples=[{"step": 12, "loss": 0.61}]
    )

    @classmethod
    def of(cls, run: RunCard) -> Self:
        """The body of a run."""
        return cls(
            job=JobBody.of(run.job),
            kind=run.job.kind,
            model_id=run.spec.model_id,
            result_id=run.result_id,
            step=run.step,
            total_steps=run.total_steps,
            start=dict(run.start),
            evaluated=dict(run.evaluated),
            stepped=dict(run.stepped),
        )


class RunNumbersList(Schema):
    """Runs, the newest first."""

    runs: list[RunNumbersBody] = Field(description="The runs.")
    previous_after: int | None = Field(
        description="Value of after for the page before; null on the first.", examples=[9]
    )
    next_before: int | None = Field(
        description="Send it back as before; null on the last page.", examples=[7]
    )


class MovedBody(Schema):
    """A feature whose mean activation on held-out answers moved while training."""

    sae_id: str = Field(description="Id of the SAE.", examples=["15-demo-res-4k"])
    index: int = Field(description="Index of the feature.", examples=[2_511])
    chosen: float = Field(description="Change on chosen answers.", examples=[0.02])
    rejected: float = Field(description="Change on rejected answers.", examples=[-0.7])
    explanation: str | None = Field(
        description="Its present explanation; null without one.", examples=["apologies"]
    )


class RunDetailBody(Schema):
    """A run with its settings and the features that moved most so far."""

    run: RunNumbersBody = Field(description="The run with its newest numbers.")
    spec: Settings = Field(description="Its settings, every default written out.")
    moved_at_step: int | None = Field(
        description="Step of the evaluation that `moved` is of; null before it.", examples=[12]
    )
    moved: list[MovedBody] = Field(description="Features that moved most, the largest first.")

    @classmethod
    def of(cls, run: RunCard, moved: MovedFeatures | None) -> Self:
        """The body of a run."""
        return cls(
            run=RunNumbersBody.of(run),
            spec=run.spec,
            moved_at_step=None if moved is None else moved.step,
            moved=[] if moved is None else [MovedBody.model_validate(f) for f in moved.features],
        )


class SubmitRequest(Request):
    """A run by its settings, or by a preset with changes."""

    spec: dict[str, Any] | None = Field(
        default=None,
        description="Settings: the fields of AlignSpec or SftSpec. Or name a preset.",
        examples=[None],
    )
    preset: str | None = Field(
        default=None, max_length=80, description="Name of a shipped preset.", examples=["demo"]
    )
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings in place of the preset's; what is an object in both is joined.",
        examples=[{"max_pairs": 64, "training": {"max_steps": 8}}],
    )


class AlignPresetBody(Schema):
    """A shipped preset."""

    name: str = Field(description="Its name.", examples=["demo"])
    spec: Settings = Field(description="Its settings, every default written out.")


class AlignPresetList(Schema):
    """The shipped presets."""

    presets: list[AlignPresetBody] = Field(description="By name.")


class FastCheckBody(Schema):
    """One look at a run's settings."""

    name: Concern = Field(description="What was looked at.", examples=["memory"])
    outcome: Outcome = Field(
        description="failed: the run would fail; unknown: only a dry run can tell.",
        examples=["passed"],
    )
    path: str = Field(description="Field that mends it; may be empty.", examples=["training.lora"])
    subject: str = Field(
        description="Id or name of what was looked at; may be empty.", examples=["15-demo-res-4k"]
    )
    numbers: dict[str, float] = Field(
        description="What was found.", examples=[{"bytes": 3.2e9, "free": 8.1e9}]
    )
    text: str = Field(description="A reader's own message; may be empty.", examples=[""])


class FastChecksBody(Schema):
    """Every fast check of a run; nothing was loaded."""

    passed: bool = Field(description="Whether none failed.", examples=[True])
    checks: list[FastCheckBody] = Field(description="In a fixed order.")
    n_steps: int | None = Field(description="Steps; null while unknown.", examples=[12])
    n_items: int | None = Field(description="Items to train on; null unknown.", examples=[128])
    cache_bytes: float | None = Field(
        description="Of the reference, at most; null while unknown.", examples=[2_100_000.0]
    )
    disk_bytes: float | None = Field(
        description="Of checkpoints and model; null while unknown.", examples=[2.4e9]
    )
    spec: Settings = Field(description="The settings, every default written out.")

    @classmethod
    def of(cls, found: LaunchReport, spec: AlignSpec | SftSpec) -> Self:
        """The body of a report."""
        return cls(
            passed=not found.failed,
            checks=[FastCheckBody.model_validate(check) for check in found.checks],
            n_steps=found.n_steps,
            n_items=found.n_items,
            cache_bytes=found.cache_bytes,
            disk_bytes=found.disk_bytes,
            spec=spec,
        )


class MetricsBody(Schema):
    """Numbers of a run over its steps."""

    steps: list[float] = Field(description="Steps of the rows, increasing.", examples=[[0, 1, 2]])
    columns: dict[str, list[float | None]] = Field(
        description="By name one number a row; null where a row has none.",
        examples=[{"loss": [None, 0.69, 0.66]}],
    )

    @classmethod
    def of(cls, table: MetricTable) -> Self:
        """The body of a table."""
        return cls(
            steps=list(table.steps),
            columns={name: list(values) for name, values in table.columns.items()},
        )


class DifferenceBody(Schema):
    """A setting in which runs differ."""

    path: str = Field(description="Dotted path of the setting.", examples=["beta"])
    values: list[JsonValue] = Field(
        description="One a run, in their order; null where a run has no such setting.",
        examples=[[0.1, 0.5]],
    )


class ComparisonBody(Schema):
    """Runs side by side."""

    runs: list[RunNumbersBody] = Field(description="In the order in which they were named.")
    metrics: list[MetricsBody] = Field(description="Numbers of each, in the same order.")
    differences: list[DifferenceBody] = Field(description="Settings that are not the same.")

    @classmethod
    def of(cls, found: Comparison) -> Self:
        """The body of a comparison."""
        return cls(
            runs=[RunNumbersBody.of(run) for run in found.runs],
            metrics=[MetricsBody.of(table) for table in found.tables],
            differences=[
                DifferenceBody(path=one.path, values=list(one.values)) for one in found.differences
            ],
        )


class ConstrainRequest(Request):
    """Chosen features of one SAE, to be held or freed."""

    model_id: str = Field(description="The model.", examples=["smollm2-135m-instruct"])
    sae: ConstraintSae = Field(
        description="The constraint so far.",
        examples=[
            {
                "sae_id": "15-demo-res-4k",
                "source": {"kind": "folder", "location": "worker/demo_saes/15-demo-res-4k"},
            }
        ],
    )
    hold: list[Choice] = Field(
        default_factory=list,
        max_length=50,
        description="Constrain these whatever their rank.",
        examples=[[{"by": "contrast", "contrast_id": 2, "side": "chosen", "limit": 10}]],
    )
    free: list[Choice] = Field(
        default_factory=list,
        max_length=50,
        description="Let these move at no cost.",
        examples=[[{"by": "words", "words": "apologies"}]],
    )
    weight: float = Field(
        default=1.0, ge=1.0, allow_inf_nan=False, description="Of the held ones.", examples=[2.0]
    )
    only_held: bool = Field(
        default=False, description="Constrain nothing but what is held.", examples=[False]
    )
