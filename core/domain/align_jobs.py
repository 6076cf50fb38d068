"""Jobs around an alignment run: data fetched and contrasted before it, a check, drift after it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from core.domain.alignment import (
    AlignSpec,
    ConstraintSae,
    DemoPreferences,
    HubPreferences,
    Lengths,
    PreferenceSource,
    SftSpec,
)
from core.domain.harvest import SaeEntry
from core.domain.ids import check_model_id, check_sae_id
from core.domain.model import Dtype, ModelSource
from core.domain.sae import SaeSource
from core.domain.spec import Spec


class ContrastSpec(Spec):
    """Which features differ between the chosen and the rejected answers of a preference set."""

    kind: Literal["contrast"] = "contrast"
    model_id: str = Field(description="Id of the model in URLs, e.g. gemma-2-2b.")
    model: ModelSource
    saes: Annotated[tuple[SaeEntry, ...], Field(min_length=1)] = Field(
        description="SAEs to read; several layers share one forward pass."
    )
    data: PreferenceSource = Field(
        default=DemoPreferences(), description="Where the pairs come from."
    )
    max_pairs: int | None = Field(
        default=512,
        ge=1,
        description="Read so many training pairs, drawn uniformly by seed; none: all.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")
    lengths: Lengths = Lengths()
    dtype: Dtype = Field(default=Dtype.BFLOAT16, description="Number format of the model.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    batch_pairs: int = Field(
        default=4,
        ge=1,
        le=1_024,
        description="Pairs of one forward pass; changes results within rounding only.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ContrastSpec":
        check_model_id(self.model_id)
        _check_once([check_sae_id(entry.sae_id) for entry in self.saes])
        return self


class DriftSae(Spec):
    """One SAE through which base and aligned model are compared."""

    sae_id: str = Field(description="Id of the SAE.")
    source: SaeSource
    harvest_id: int | None = Field(
        default=None,
        ge=1,
        description="Harvest whose stored contexts are read again; none: answers only.",
    )


class SamplingSpec(Spec):
    """Generations of both models on the same prompts."""

    n_prompts: int = Field(default=8, ge=0, le=256, description="Prompts, the first of the data.")
    max_new_tokens: int = Field(default=64, ge=1, le=4_096, description="Tokens at most.")
    temperature: float = Field(
        default=0.0, ge=0.0, le=10.0, description="0 takes the likeliest token every time."
    )
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="Draw among the tokens that hold this mass."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draws.")


class DriftSpec(Spec):
    """What moved: an aligned model against its base, through the same SAEs at the same positions.

    Held-out pairs are read, or the training ones where none are held out.
    """

    kind: Literal["drift"] = "drift"
    run_job_id: int | None = Field(
        default=None, ge=1, description="The alignment run; none for a folder from elsewhere."
    )
    model_id: str = Field(description="Id of the base model in URLs.")
    model: ModelSource
    aligned_id: str = Field(description="Id of the aligned model.")
    aligned_dir: Annotated[str, Field(min_length=1)] = Field(
        description="Transformers folder of the aligned model."
    )
    method: str = Field(default="", description="Loss of the run, for lists.")
    saes: tuple[DriftSae, ...] = Field(
        default=(), description="SAEs to read; none: samples are written only."
    )
    constraint: tuple[ConstraintSae, ...] = Field(
        default=(), description="The run's constraint set, by which features are marked."
    )
    data: PreferenceSource = Field(
        default=DemoPreferences(), description="Where the pairs come from."
    )
    max_pairs: int = Field(default=256, ge=1, description="Pairs to read at most.")
    lengths: Lengths = Lengths()
    dtype: Dtype = Field(default=Dtype.BFLOAT16, description="Number format of both models.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    batch_pairs: int = Field(
        default=4,
        ge=1,
        le=1_024,
        description="Pairs of one forward pass; changes results within rounding only.",
    )
    batch_contexts: int = Field(
        default=8, ge=1, le=1_024, description="Contexts of one forward pass."
    )
    sampling: SamplingSpec = SamplingSpec()

    @model_validator(mode="after")
    def _consistent(self) -> "DriftSpec":
        check_model_id(self.model_id)
        check_model_id(self.aligned_id)
        _check_once([check_sae_id(entry.sae_id) for entry in self.saes])
        if not self.saes and not self.sampling.n_prompts:
            raise ValueError("neither an SAE to read nor a sample to write")
        return self


class FetchSpec(Spec):
    """Rows of a hub dataset, or of a folder that the ``datasets`` library reads, brought here.

    They wait as an upload whose report a person reads first, or are saved as a set at once.
    """

    kind: Literal["fetch"] = "fetch"
    data: HubPreferences = Field(description="Dataset and splits.")
    upload: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] = Field(
        description="Token of the upload that the rows become."
    )
    save_as: str = Field(
        default="",
        max_length=120,
        pattern=r"^[^\x00]*$",
        description="Name of the set to save; empty: wait until somebody has read the report.",
    )


Trainable: TypeAlias = Annotated[AlignSpec | SftSpec, Field(discriminator="kind")]


class AlignCheckSpec(Spec):
    """A dry run: everything of a run that can be known before it, and a few measured steps."""

    kind: Literal["align_check"] = "align_check"
    run: Trainable = Field(description="The run's settings, exactly as they would be submitted.")
    n_steps: int = Field(
        default=2, ge=1, le=10, description="Steps to measure; their weights are thrown away."
    )


def _check_once(ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        raise ValueError("an SAE is named twice")
