"""Alignment and SFT from a loaded model to its trained folder, whatever the number of processes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.domain.alignment import AlignSpec, LoraSpec, SftSpec, Strategy, TrainingSpec
from core.domain.model import Dtype
from core.domain.preference import ConversationSet, PreferencePair, PreferenceSet
from core.errors import Cancelled, Invalid
from worker.align.constraint import Constraint
from worker.align.data.pairs import (
    TokenPair,
    TokenSequence,
    Truncation,
    count_truncation,
    encode_conversations,
    encode_pairs,
    pad_id_of,
    sides,
)
from worker.align.data.sources import check_enough
from worker.align.data.templates import has_template
from worker.align.objective import ConversationObjective, OnlineReference, PreferenceObjective
from worker.align.policy import Policy, check_head
from worker.align.reference_cache import (
    ReferenceCache,
    ReferenceModel,
    ReferencePlan,
    build_reference,
    data_digest,
    missing_shards,
    plan_reference,
    remove_damaged,
    verify_reference,
)
from worker.align.storage import canonical, disk_errors, new_folder
from worker.align.training.adapters import add_adapters
from worker.align.training.evaluation import Evaluation
from worker.align.training.loop import train
from worker.align.training.observer import Observer
from worker.align.training.probe import Probe, make_probe
from worker.device import TORCH_DTYPES
from worker.lm.load import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every run needs: where it writes, who watches, and which processes share it.

    Attributes:
        folder: the run's own folder.
        reference_root: folder of reference caches, shared by runs.
    """

    folder: Path
    reference_root: Path
    accelerator: Accelerator
    observer: Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run.

    Attributes:
        model_dir: transformers folder of the trained model, float32, adapters merged.
        cache_bytes_per_pair: of the offline reference, by part; empty for SFT.
    """

    model_dir: Path
    steps: int
    n_train: int
    n_held_out: int
    n_refused: int
    truncation: str
    cache_bytes_per_pair: dict[str, float]


def align_model(
    spec: AlignSpec,
    *,
    loaded: LoadedModel,
    constraints: Sequence[Constraint],
    data: PreferenceSet,
    stage: Stage,
) -> RunResult:
    """Run preference optimisation on a model that was just loaded.

    The reference's numbers are computed first, from the model itself, which is the reference
    until its first step; only TDPO keeps a frozen copy.
    """
    check_enough(data, len(data.train))
    train_pairs = data.train[: spec.max_pairs]
    held_out = data.held_out[: spec.training.max_eval]
    encoded, cut = _encode(spec, (*train_pairs, *held_out), loaded=loaded, data=data, stage=stage)
    policy = open_policy(loaded, spec.dtype)
    cache, probe = prepare_reference(
        spec=spec,
        encoded=encoded,
        n_train=len(train_pairs),
        policy=policy,
        constraints=constraints,
        stage=stage,
        loaded=loaded,
    )
    online = keep_online(spec, policy, encoded, constraints, stage)
    adapted = make_trainable(policy, spec.training)

    def objective(places: range) -> PreferenceObjective:
        return PreferenceObjective(
            spec=spec,
            pairs=[encoded[i] for i in places],
            places=places,
            reference=cache,
            constraints=constraints,
            online=online,
            pad_id=pad_id_of(loaded.tokenizer),
            device=stage.accelerator.device,
        )

    identity = _identity(spec, loaded, data_digest(encoded), [c.revision for c in constraints])
    steps = _train(
        policy,
        training=objective(range(len(train_pairs))),
        held_out=objective(range(len(train_pairs), len(encoded))),
        probe=probe,
        spec=spec.training,
        strategy=spec.launch.strategy,
        identity=identity,
        stage=stage,
        adapted=adapted,
        tokenizer=loaded.tokenizer,
    )
    return RunResult(
        model_dir=stage.folder / "model",
        steps=steps,
        n_train=len(train_pairs),
        n_held_out=len(held_out),
        n_refused=len(data.rejected),
        truncation=cut.sentence(),
        cache_bytes_per_pair=cache.bytes_per_pair,
    )


def tune_model(
    spec: SftSpec, *, loaded: LoadedModel, data: ConversationSet, stage: Stage
) -> RunResult:
    """Imitate the assistant's turns of conversations with a model that was just loaded."""
    check_enough(data, len(data.train))
    kept = data.train[: spec.max_conversations]
    held_out = data.held_out[: spec.training.max_eval]
    encoded = encode_conversations(
        (*kept, *held_out), tokenizer=loaded.tokenizer, max_length=spec.max_length
    )
    cut = count_truncation(encoded)
    _announce(stage, loaded, data, cut)
    check_lengths(spec.max_length, loaded)
    policy = open_policy(loaded, spec.dtype)
    adapted = make_trainable(policy, spec.training)

    def objective(sequences: Sequence[TokenSequence]) -> ConversationObjective:
        return ConversationObjective(
            sequences=sequences,
            pad_id=pad_id_of(loaded.tokenizer),
            device=stage.accelerator.device,
        )

    as_pairs = [TokenPair(chosen=s, rejected=s, row=i) for i, s in enumerate(encoded)]
    steps = _train(
        policy,
        training=objective(encoded[: len(kept)]),
        held_out=objective(encoded[len(kept) :]),
        probe=None,
        spec=spec.training,
        strategy=spec.launch.strategy,
        identity=_identity(spec, loaded, data_digest(as_pairs), []),
        stage=stage,
        adapted=adapted,
        tokenizer=loaded.tokenizer,
    )
    return RunResult(
        model_dir=stage.folder / "model",
        steps=steps,
        n_train=len(kept),
        n_held_out=len(held_out),
        n_refused=len(data.rejected),
        truncation=cut.sentence(),
        cache_bytes_per_pair={},
    )


def _announce(
    stage: Stage, loaded: LoadedModel, data: PreferenceSet | ConversationSet, cut: Truncation
) -> None:
    if has_template(loaded.tokenizer):
        stage.observer.tell("align_template")
    else:
        stage.observer.tell("align_no_template")
    stage.observer.tell("align_refused", n=len(data.rejected), n_rows=data.n_rows)
    stage.observer.tell("align_cut", **cut.numbers())


def check_lengths(max_length: int, loaded: LoadedModel) -> None:
    """Refuse texts that are longer than the model reads."""
    if max_length > loaded.info.context_limit:
        raise Invalid(
            f"max_length is {max_length}, but the model reads {loaded.info.context_limit} tokens.",
            hint="Choose a smaller max_length.",
        )


def _encode(
    spec: AlignSpec,
    pairs: Sequence[PreferencePair],
    *,
    loaded: LoadedModel,
    data: PreferenceSet,
    stage: Stage,
) -> tuple[Sequence[TokenPair], Truncation]:
    """The pairs as tokens, within the model's length, and how many were cut."""
    encoded = encode_pairs(pairs, tokenizer=loaded.tokenizer, lengths=spec.lengths)
    cut = count_truncation(sides(encoded))
    _announce(stage, loaded, data, cut)
    check_lengths(spec.lengths.max_length, loaded)
    return encoded, cut


def open_policy(loaded: LoadedModel, dtype: Dtype) -> Policy:
    """The model with dropout off, which passes through ``train`` mode for checkpointing only."""
    check_head(loaded.model)
    for module in loaded.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # a number in Llama
            module.attention_dropout = 0.0  # type: ignore[assignment]  # nn.Module's stub
    weights = next(loaded.model.parameters()).dtype
    compute = weights if weights == torch.float64 else TORCH_DTYPES[dtype]
    return Policy(loaded.model, compute=compute)


def prepare_reference(
    *,
    spec: AlignSpec,
    encoded: Sequence[TokenPair],
    n_train: int,
    policy: Policy,
    constraints: Sequence[Constraint],
    stage: Stage,
    loaded: LoadedModel,
) -> tuple[ReferenceCache, Probe]:
    """The reference cache, grown where it lacks shards and checked on a sample, and the probe."""
    model = ReferenceModel(revision=loaded.info.revision, compute=policy.compute)
    pad_id, device = pad_id_of(loaded.tokenizer), stage.accelerator.device
    plan = plan_reference(encoded, model=model, constraints=constraints, root=stage.reference_root)
    _grow(
        plan,
        encoded,
        spec=spec,
        policy=policy,
        constraints=constraints,
        stage=stage,
        pad_id=pad_id,
    )
    cache = ReferenceCache(plan, constraints)
    verify_reference(
        cache,
        encoded,
        policy=policy,
        constraints=constraints,
        compute=policy.compute,
        pad_id=pad_id,
        device=device,
    )
    stage.observer.tell("align_reference_checked")
    with stage.accelerator.main_process_first():
        probe = make_probe(
            encoded[n_train:],
            policy=policy,
            model=model,
            n_rows=spec.training.n_probe_rows,
            root=stage.reference_root / "probe",
            pad_id=pad_id,
            device=device,
        )
    return cache, probe


def _grow(
    plan: ReferencePlan,
    encoded: Sequence[TokenPair],
    *,
    spec: AlignSpec,
    policy: Policy,
    constraints: Sequence[Constraint],
    stage: Stage,
    pad_id: int,
) -> None:
    if stage.accelerator.is_main_process and (damaged := remove_damaged(plan)):
        stage.observer.tell("align_reference_damaged", n=len(damaged))
    stage.accelerator.wait_for_everyone()
    missing = missing_shards(plan)
    total = len(encoded)
    done = total - min(total, len(missing) * plan.shard_pairs)
    if not missing:
        stage.observer.tell("align_reference_kept")

    def after_batch(n_pairs: int) -> None:
        nonlocal done
        done += n_pairs * stage.accelerator.num_processes
        stage.observer.progress(done=min(done, total), total=total, phase="reference")
        if stage.observer.stop_requested():
            raise Cancelled("The run was asked to stop; finished shards are kept.")

    build_reference(
        plan,
        encoded,
        policy=policy,
        constraints=constraints,
        batch_pairs=spec.training.micro_batch_size,
        pad_id=pad_id,
        device=stage.accelerator.device,
        shards=missing[stage.accelerator.process_index :: stage.accelerator.num_processes],
        after_batch=after_batch,
    )
    stage.accelerator.wait_for_everyone()


def keep_online(
    spec: AlignSpec,
    policy: Policy,
    encoded: Sequence[TokenPair],
    constraints: Sequence[Constraint],
    stage: Stage,
) -> OnlineReference | None:
    """A frozen copy of the policy, for methods that compare whole distributions; else None."""
    if not spec.needs_online_reference:
        return None
    stage.observer.tell("align_online", method=spec.method.value)
    return OnlineReference(
        copy.deepcopy(policy),
        encoded,
        constraints=constraints,
        pad_id=0,
        device=stage.accelerator.device,
    )


def make_trainable(policy: Policy, spec: TrainingSpec) -> PeftModel | None:
    """Open all weights, or put adapters in; then checkpointing, if wanted."""
    adapted = None
    if spec.lora is None:
        policy.model.requires_grad_(True)
    else:
        adapted = _adapt(policy, spec.lora, seed=spec.seed)
    if spec.gradient_checkpointing:
        policy.model.activation_checkpointing_enable({"use_reentrant": False})
    return adapted


def _adapt(policy: Policy, spec: LoraSpec, *, seed: int) -> PeftModel:
    adapted = add_adapters(policy.model, spec, seed=seed)
    policy.model = cast(PreTrainedModel, adapted.get_base_model())
    return adapted


def _identity(
    spec: AlignSpec | SftSpec, loaded: LoadedModel, data: str, saes: Sequence[str]
) -> str:
    """Everything that a run's trajectory follows from; what comes after it is left out."""
    return canonical(
        {
            "spec": spec.model_dump(mode="json", exclude={"measure_drift"}),
            "model": loaded.info.revision,
            "data": data,
            "saes": list(saes),
        }
    )


def _train(
    policy: Policy,
    *,
    training: PreferenceObjective | ConversationObjective,
    held_out: PreferenceObjective | ConversationObjective,
    probe: Probe | None,
    spec: TrainingSpec,
    strategy: Strategy,
    identity: str,
    stage: Stage,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerBase,
) -> int:
    evaluation = Evaluation(
        objective=held_out,
        batch_size=spec.micro_batch_size,
        probe=probe,
        accelerator=stage.accelerator,
        moved=stage.observer.moved,
    )
    trained = train(
        policy,
        objective=training,
        evaluate=evaluation,
        spec=spec,
        accelerator=stage.accelerator,
        folder=stage.folder,
        identity=identity,
        watcher=stage.observer,
        strategy=strategy,
    )
    _export(trained.policy, policy, adapted, tokenizer, stage)
    return trained.steps


def _export(
    wrapped: nn.Module,
    policy: Policy,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerBase,
    stage: Stage,
) -> None:
    """The trained model as a transformers folder, adapters beside it and merged in it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = None if adapted else get_model_state_dict(wrapped, options=options)
    if not stage.accelerator.is_main_process:
        return
    model: PreTrainedModel = policy.model
    if adapted is not None:
        with new_folder(stage.folder / "adapter") as partial:
            adapted.save_pretrained(str(partial))
        model = adapted.merge_and_unload()
    with new_folder(stage.folder / "model") as partial, disk_errors(partial):
        inner = (
            None if weights is None else {k.removeprefix("model."): v for k, v in weights.items()}
        )
        model.save_pretrained(partial, state_dict=inner)
        tokenizer.save_pretrained(partial)
    stage.observer.tell("align_written")
