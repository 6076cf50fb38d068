"""Alignment runs: method, constraint set, data and training settings of SFT and preference jobs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator

from core.domain.ids import check_model_id, check_sae_id
from core.domain.model import Dtype, ModelSource
from core.domain.sae import SaeSource
from core.domain.spec import Spec


class Method(StrEnum):
    """A preference loss."""

    DPO = "dpo"
    SIMPO = "simpo"
    TDPO1 = "tdpo1"
    TDPO2 = "tdpo2"
    FPO = "fpo"


def method_name(method: str) -> str:
    """A loss, or the fine-tuning before it, as people write it.

    >>> method_name("simpo"), method_name(Method.TDPO1), method_name("sft")
    ('SimPO', 'TDPO1', 'SFT')
    """
    return "SimPO" if method == Method.SIMPO else method.upper()


class IndexSet(StrEnum):
    """Which features enter the feature divergence."""

    UNION = "union"  # top k of the policy and top k of the reference: the paper's eq. 10
    POLICY = "policy"  # top k of the policy only: what the paper's released code does


class OptimizerName(StrEnum):
    """How gradients become steps."""

    ADAM = "adam"
    RMSPROP = "rmsprop"


class Schedule(StrEnum):
    """What the learning rate does after its warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"  # to 0 at the last step
    COSINE = "cosine"  # to 0 at the last step


class Strategy(StrEnum):
    """How several processes share one run."""

    DDP = "ddp"  # every process holds the whole model
    FSDP = "fsdp"  # weights, gradients and optimiser state are cut among the processes


class HeldFeature(Spec):
    """A feature that enters the divergence whatever its rank."""

    feature: int = Field(ge=0, description="Index of the feature in its SAE.")
    weight: float = Field(default=1.0, ge=1.0, description="Weight of its squared drift, ≥ 1.")


class Treated(StrEnum):
    """What a constraint does with chosen features."""

    HELD = "held"
    FREE = "free"


class TagSource(Spec):
    """A tag whose features were held or free, with what it meant when the run was set up.

    The features stand in held or free as well, which is what a run reads: a tag that changes
    later changes no run.
    """

    tag: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        description="Name of the tag at that time."
    )
    treatment: Treated = Field(description="Whether its features are held or free.")
    features: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="The features that bore it, each of them held or free here."
    )


class ConstraintSae(Spec):
    """One SAE of a constraint set, with how its features are treated.

    The defaults are the paper's loss exactly: every feature that ranks among the top k, weight 1.
    """

    sae_id: str = Field(description="Id of the SAE; names its metrics.")
    source: SaeSource
    k: int = Field(
        default=50, ge=1, description="Size of each top-k set and the divergence's normaliser."
    )
    index_set: IndexSet = Field(
        default=IndexSet.UNION, description="union (the paper) or policy (its released code)."
    )
    others: float = Field(
        default=1.0,
        ge=0.0,
        description="Weight of features neither held nor free: 1 constrains all features, "
        "0 only the held ones.",
    )
    held: tuple[HeldFeature, ...] = Field(
        default=(), description="Features that are always constrained."
    )
    free: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Features that may move at no cost (weight 0)."
    )
    weight: float = Field(
        default=1.0, gt=0.0, description="Factor of this SAE's divergence in the sum over SAEs."
    )
    tags: tuple[TagSource, ...] = Field(
        default=(),
        # settings without tags look as they did before there were tags, so that hashes stay
        exclude_if=lambda tags: not tags,
        description="Tags that held and free features came from; changes nothing.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ConstraintSae":
        check_sae_id(self.sae_id)
        held = [entry.feature for entry in self.held]
        if len(set(held)) != len(held) or set(held) & set(self.free):
            raise ValueError("a feature is named twice among held and free")
        if self.others == 0 and not held:
            raise ValueError("others is 0 and no feature is held, so nothing is constrained")
        chosen = {Treated.HELD: set(held), Treated.FREE: set(self.free)}
        for source in self.tags:
            if not chosen[source.treatment].issuperset(source.features):
                raise ValueError(f"a feature of the tag {source.tag} is not {source.treatment}")
        return self


class DemoPreferences(Spec):
    """The preference set that ships with Sparsight: direct answers over evasive ones."""

    kind: Literal["demo"] = "demo"


class FilePreferences(Spec):
    """A file or folder of pairs: JSON lines, JSON, Parquet, or a saved ``datasets`` folder."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] = Field(
        description="Path of a .jsonl, .jsonl.gz, .json or .parquet file, or of a folder."
    )
    held_out_share: float = Field(
        default=0.05,
        ge=0.0,
        lt=1.0,
        description="Share of prompts held out where neither rows nor files name a split.",
    )


class HubPreferences(Spec):
    """A dataset of the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    name: Annotated[str, Field(min_length=1)] = Field(
        description="Dataset repository, e.g. HuggingFaceH4/ultrafeedback_binarized."
    )
    config: str | None = Field(default=None, description="Configuration of the dataset.")
    train_split: str = Field(default="train", description="Split that is trained on.")
    eval_split: str | None = Field(
        default=None, description="Split that is held out; none cuts a share off the training one."
    )
    held_out_share: float = Field(
        default=0.05, ge=0.0, lt=1.0, description="Share held out where no split is named."
    )
    revision: str | None = Field(default=None, description="Commit, tag or branch of the dataset.")


class StoredPreferences(Spec):
    """A preference set that was uploaded, named by the hash of its pairs and their splits."""

    kind: Literal["stored"] = "stored"
    content_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="Content hash of the set, as its page and the REST API show it."
    )
    name: str = Field(default="", description="What the set is called; changes nothing.")


PreferenceSource = Annotated[
    DemoPreferences | FilePreferences | HubPreferences | StoredPreferences,
    Field(discriminator="kind"),
]
ConversationSource = Annotated[FilePreferences | HubPreferences, Field(discriminator="kind")]


def preference_name(source: PreferenceSource) -> str:
    """What a source of pairs is called in lists.

    >>> preference_name(FilePreferences(path="/data/pairs.jsonl"))
    'pairs.jsonl'
    """
    match source:
        case DemoPreferences():
            return "demo"
        case FilePreferences(path=path):
            return Path(path).name
        case HubPreferences(name=name):
            return name
        case StoredPreferences(name=name, content_hash=content_hash):
            return name or content_hash[:12]
        case _:
            assert_never(source)


class Lengths(Spec):
    """How many tokens of a prompt and its answers are read; what is cut is counted.

    A prompt keeps its end (and its BOS), an answer its beginning; a cut answer has no end of turn.
    """

    max_length: int = Field(default=1024, ge=8, description="Tokens of a prompt with its answer.")
    max_prompt_length: int = Field(default=512, ge=4, description="Tokens of a prompt.")

    @model_validator(mode="after")
    def _room_for_an_answer(self) -> "Lengths":
        if self.max_prompt_length >= self.max_length:
            raise ValueError("max_prompt_length leaves no room for an answer below max_length")
        return self


class OptimizerSpec(Spec):
    """Optimiser and learning rate."""

    name: OptimizerName = Field(default=OptimizerName.ADAM, description="adam or rmsprop.")
    learning_rate: float = Field(default=5e-7, gt=0.0, description="Peak learning rate.")
    warmup_steps: int = Field(default=150, ge=0, description="Steps of linear warm-up.")
    schedule: Schedule = Field(default=Schedule.CONSTANT, description="After the warm-up.")
    weight_decay: float = Field(default=0.0, ge=0.0, description="Decoupled weight decay (Adam).")
    max_grad_norm: float | None = Field(
        default=10.0, gt=0.0, description="Gradients are scaled down to this norm; none: never."
    )


class LoraSpec(Spec):
    """Low-rank adapters instead of a full fine-tune."""

    rank: int = Field(default=16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(default=32.0, gt=0.0, description="Scale of the adapters, over rank.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout inside the adapters.")
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the linear layers that get an adapter.",
    )


class LaunchSpec(Spec):
    """How many processes train."""

    processes: int = Field(default=1, ge=1, description="One for each accelerator of the machine.")
    strategy: Strategy = Field(default=Strategy.DDP, description="ddp or fsdp, from 2 processes.")


class TrainingSpec(Spec):
    """Everything about the steps themselves."""

    optimizer: OptimizerSpec = OptimizerSpec()
    lora: LoraSpec | None = Field(default=None, description="Adapters; none: all weights train.")
    batch_size: int = Field(default=32, ge=1, description="Pairs or conversations a step.")
    micro_batch_size: int = Field(
        default=1,
        ge=1,
        description="Pairs or conversations of one forward pass; changes speed and memory only.",
    )
    epochs: int = Field(default=1, ge=1, description="Passes over the training part.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Stop after so many steps; none: all epochs."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the order of the data.")
    gradient_checkpointing: bool = Field(
        default=True, description="Recompute layers in the backward pass; saves memory."
    )
    eval_every: int = Field(default=50, ge=1, description="Steps between two evaluations.")
    save_every: int = Field(default=50, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoints kept.")
    max_eval: int = Field(
        default=256, ge=1, description="Held-out pairs or conversations of an evaluation."
    )
    n_probe_rows: int = Field(
        default=256,
        ge=0,
        description="Response positions on which the exact KL to the reference is measured.",
    )
    tensorboard: bool = Field(default=True, description="Also write TensorBoard files.")


class AlignSpec(Spec):
    """One preference-optimisation run."""

    kind: Literal["align"] = "align"
    model_id: str = Field(description="Id of the model in URLs, e.g. gemma-2-2b.")
    model: ModelSource
    aligned_id: str = Field(description="Id that the aligned model will have.")
    data: PreferenceSource = Field(
        default=DemoPreferences(), description="Where the pairs come from."
    )
    max_pairs: int | None = Field(
        default=None, ge=1, description="Use so many training pairs; none: all."
    )
    method: Method = Field(default=Method.FPO, description="Loss.")
    beta: float = Field(default=0.1, gt=0.0, description="Scale of the reward.")
    alpha: float = Field(
        default=0.5, ge=0.0, description="Weight of the constraint of TDPO2 and FPO."
    )
    gamma: float = Field(default=0.5, description="SimPO's target margin, in units of u.")
    constraint: tuple[ConstraintSae, ...] = Field(
        default=(),
        description="SAEs whose features FPO holds; other methods only report their drift.",
    )
    lengths: Lengths = Lengths()
    training: TrainingSpec = TrainingSpec()
    dtype: Dtype = Field(
        default=Dtype.BFLOAT16,
        description="Number format of forward passes. Trained weights are kept in float32, since "
        "a learning rate of 5e-7 vanishes in bfloat16.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    launch: LaunchSpec = LaunchSpec()
    measure_drift: bool = Field(
        default=True,
        description="Queue a job at the end that measures which features moved and writes samples.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "AlignSpec":
        check_model_id(self.model_id)
        check_model_id(self.aligned_id)
        names = [sae.sae_id for sae in self.constraint]
        if len(set(names)) != len(names):
            raise ValueError("an SAE is named twice in the constraint set")
        if self.method is Method.FPO and not names:
            raise ValueError("fpo needs at least one SAE in its constraint set")
        _check_launch(self.launch, self.training)
        return self

    @property
    def needs_online_reference(self) -> bool:
        """Whether training keeps the reference model: its whole distributions are compared."""
        return self.method in {Method.TDPO1, Method.TDPO2}


class SftSpec(Spec):
    """One supervised fine-tuning run on conversations; alignment can start from its result."""

    kind: Literal["sft"] = "sft"
    model_id: str = Field(description="Id of the model in URLs, e.g. gemma-2-2b.")
    model: ModelSource
    tuned_id: str = Field(description="Id that the tuned model will have.")
    data: ConversationSource = Field(description="Where the conversations come from.")
    max_conversations: int | None = Field(
        default=None, ge=1, description="Use so many training conversations; none: all."
    )
    max_length: int = Field(default=1024, ge=8, description="Tokens of a conversation.")
    training: TrainingSpec = TrainingSpec()
    dtype: Dtype = Field(default=Dtype.BFLOAT16, description="Number format of forward passes.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    launch: LaunchSpec = LaunchSpec()

    @model_validator(mode="after")
    def _consistent(self) -> "SftSpec":
        check_model_id(self.model_id)
        check_model_id(self.tuned_id)
        _check_launch(self.launch, self.training)
        return self


def _check_launch(launch: LaunchSpec, training: TrainingSpec) -> None:
    if launch.processes > 1 and launch.strategy is Strategy.FSDP and training.lora is not None:
        raise ValueError("adapters are small enough for ddp; fsdp is for training all weights")
