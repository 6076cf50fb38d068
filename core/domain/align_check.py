"""What a dry run found: each check with its verdict, and what the run will take."""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from core.domain.preference import RejectReason


class CheckName(StrEnum):
    """What is checked, in this order; what needs an earlier check that failed is left out."""

    DATA = "data"  # readable, and something to train on
    MODEL = "model"  # loads, and has a head that alignment can read
    SAES = "saes"  # hook points, widths, k, and named features
    LENGTHS = "lengths"  # within what the model reads
    DISK = "disk"  # room for checkpoints, the trained model and the reference
    MEMORY = "memory"  # room for weights, gradients and optimiser; then the measured peak
    STEPS = "steps"  # a few real steps with finite losses


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckItem(_Value):
    """One check.

    ``message`` says what was found or what is wrong, ``hint`` how to mend it; ``code`` is the
    error's, empty where the check passed.
    """

    name: CheckName = Field(description="What was checked.")
    passed: bool = Field(description="Whether the run may start, as far as this goes.")
    message: str = Field(description="What was found, or what is wrong.")
    code: str = Field(default="", description="Stable error code; empty if it passed.")
    hint: str = Field(default="", description="How to mend it; empty if it passed.")


class DataFacts(_Value):
    """The data of the run."""

    n_rows: int = Field(description="Rows read.")
    n_train: int = Field(description="Pairs or conversations that will be trained on.")
    n_held_out: int = Field(description="Held-out ones of an evaluation.")
    rejected_by_reason: Mapping[RejectReason, int] = Field(description="Refused rows by reason.")


class LengthFacts(_Value):
    """The data as tokens."""

    mean_tokens: float = Field(description="Tokens of a prompt with one answer, on average.")
    longest_tokens: int = Field(description="Tokens of the longest one.")
    n_prompts_cut: int = Field(description="Prompts that lost their beginning.")
    n_answers_cut: int = Field(description="Answers that lost their end.")
    truncation: str = Field(description="The same in a sentence.")


class Estimate(_Value):
    """What the run will take, from measured steps; of one process."""

    n_steps: int = Field(description="Steps of the run.")
    seconds_per_step: float = Field(description="Mean of the measured steps.")
    seconds_reference: float = Field(description="To compute the part of the reference not cached.")
    seconds_evaluations: float = Field(description="All evaluations together.")
    seconds: float = Field(description="The whole run.")
    tokens_per_second: float = Field(description="Of the measured steps.")
    peak_memory_bytes: int = Field(description="Measured, with the longest pairs in a batch.")
    memory_bytes: int = Field(description="What the device or machine has.")
    disk_bytes: int = Field(description="Checkpoints, trained model and reference.")
    disk_free_bytes: int = Field(description="Room in the data folder now.")
    losses: tuple[float, ...] = Field(description="Losses of the measured steps.")
    device: str = Field(description="Where the steps ran.")


class CheckReport(_Value):
    """A dry run's result; parts that could not be found out are null."""

    passed: bool = Field(description="Whether nothing speaks against the run.")
    checks: tuple[CheckItem, ...] = Field(description="In the order of their names.")
    data: DataFacts | None = Field(default=None, description="The data, if they could be read.")
    lengths: LengthFacts | None = Field(default=None, description="The data as tokens.")
    estimate: Estimate | None = Field(default=None, description="Memory, time and disk.")
