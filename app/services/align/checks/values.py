"""What is checked, what a look found, and the report of all looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.services.align.costs import MemoryParts, ModelSizes, SaeSizes
from app.services.align.data import DataFacts
from app.services.harvest.estimate import Machine
from app.services.problems import FieldProblem, FieldsInvalid
from core.errors import SparsightError


class Concern(StrEnum):
    """What is looked at."""

    DATA = "data"
    REFUSED = "refused"
    HELD_OUT = "held_out"
    LENGTHS = "lengths"
    MODEL = "model"
    CONTEXT = "context"
    RESULT_ID = "result_id"
    SAE = "sae"
    STRANGER = "stranger"
    HOOK = "hook"
    FEATURES = "features"
    STEPS = "steps"
    WARMUP = "warmup"
    BATCH = "batch"
    REFERENCE = "reference"
    CACHE = "cache"
    MEMORY = "memory"
    DISK = "disk"


class Outcome(StrEnum):
    """What a look found."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"  # the run would fail: it is not submitted
    UNKNOWN = "unknown"  # only the run itself can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One look at a run's settings.

    Attributes:
        path: dotted place of the field that mends it; empty for the whole.
        subject: id or name of what was looked at.
        numbers: what was found, by names that the words of the check use.
        text: a message of a reader of files, where one speaks for itself.
    """

    name: Concern
    outcome: Outcome
    path: str = ""
    subject: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was found about a run's parts; None where nothing could be.

    Attributes:
        data: facts of the data, or why they cannot be read, or None where only the run can tell.
        context_limit: tokens that the model reads at most.
        saes: sizes by SAE id.
        hooks: hook point by SAE id.
        architectures, scalings: of each SAE, by its id.
        strangers: SAEs that are known for another model, with that model's id.
        taken_ids: ids of models that there are.
    """

    data: DataFacts | SparsightError | None
    model: ModelSizes | None
    context_limit: int | None
    saes: Mapping[str, SaeSizes]
    hooks: Mapping[str, str]
    architectures: Mapping[str, str]
    scalings: Mapping[str, str]
    strangers: Mapping[str, str]
    taken_ids: frozenset[str]
    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchReport:
    """Every check of a run, and the sizes that they rest on.

    Attributes:
        n_steps, n_items: None while the data are unknown.
        cache_bytes: at most; None where an SAE's L0 or the data are unknown.
    """

    checks: tuple[Check, ...]
    n_steps: int | None
    n_items: int | None
    memory: MemoryParts | None
    cache_bytes: float | None
    disk_bytes: float | None
    machine: Machine

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that keep the run from being submitted."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    def refuse_failed(self) -> None:
        """Raise what keeps the run from being submitted, for programs.

        Raises:
            FieldsInvalid: a check failed; each with the field that mends it.
        """
        if self.failed:
            raise FieldsInvalid(tuple(map(_problem, self.failed)))

    def count(self, outcome: Outcome) -> int:
        """Checks of an outcome."""
        return sum(check.outcome == outcome for check in self.checks)


def _problem(check: Check) -> FieldProblem:
    found = ", ".join(f"{name} {value:g}" for name, value in check.numbers.items())
    seen = " ".join(part for part in (check.subject, check.text, found) if part)
    return FieldProblem(
        path=check.path,
        message=f"The check of {check.name.value} failed: {seen}.".replace("..", "."),
        hint="Ask /api/v1/alignments/check for every check of these settings.",
    )
