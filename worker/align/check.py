"""A dry run: what can be known of a run before it starts, and a few steps to measure."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from core.domain.align_check import (
    CheckItem,
    CheckName,
    CheckReport,
    DataFacts,
    Estimate,
    LengthFacts,
)
from core.domain.align_jobs import AlignCheckSpec
from core.domain.alignment import AlignSpec, OptimizerName, SftSpec
from core.domain.preference import ConversationSet, PreferenceSet
from core.errors import Cancelled, ClaimLost, DiskFull, OutOfMemory, SparsightError
from worker.align.constraint import Constraint
from worker.align.data.pairs import (
    TokenPair,
    TokenSequence,
    count_truncation,
    encode_conversations,
    encode_pairs,
    sides,
)
from worker.align.data.sources import check_enough, load_conversations, load_preferences
from worker.align.pipeline import check_lengths
from worker.align.policy import check_head
from worker.align.rehearsal import Rehearsal, Watch
from worker.align.run import load_constraints, load_run_model
from worker.lm.load import LoadedModel
from worker.progress import JobContext

T = TypeVar("T")


def run_check(spec: AlignCheckSpec, job: JobContext) -> dict[str, Any]:
    """Check a run's settings with the real model and data, and measure a few steps.

    What is wrong is a failed check of the report, not a failure of the job; whatever needs it is
    left out. Nothing of the measured steps is kept.

    Returns:
        ``passed``, and a ``CheckReport`` as JSON values under ``report``.

    Raises:
        Cancelled: asked to stop.
    """
    folder = job.work_dir / "check"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = _Check(spec, job, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"passed": report.passed, "report": report.model_dump(mode="json")}


class _Check:
    """The checks that were made so far, and what they gave to the next ones."""

    def __init__(self, spec: AlignCheckSpec, job: JobContext, folder: Path) -> None:
        self._spec = spec.run
        self._n_steps = spec.n_steps
        self._job = job
        self._folder = folder
        self._items: list[CheckItem] = []
        self._data: DataFacts | None = None
        self._lengths: LengthFacts | None = None
        self._estimate: Estimate | None = None

    def run(self) -> CheckReport:
        """Every check that can be made, in order."""
        data = self._make(CheckName.DATA, self._read_data)
        loaded = self._make(CheckName.MODEL, self._load)
        if loaded is not None:
            constraints = self._make(CheckName.SAES, lambda: self._read_saes(loaded))
            encoded = None
            if data is not None:
                encoded = self._make(CheckName.LENGTHS, lambda: self._encode(data, loaded))
            self._make(CheckName.DISK, lambda: self._check_disk(loaded))
            self._make(CheckName.MEMORY, lambda: self._check_memory(loaded))
            if encoded is not None and constraints is not None and self._passed:
                self._make(CheckName.STEPS, lambda: self._rehearse(loaded, constraints, encoded))
        self._tell_progress(self._items[-1].name)
        return CheckReport(
            passed=self._passed,
            checks=tuple(self._items),
            data=self._data,
            lengths=self._lengths,
            estimate=self._estimate,
        )

    @property
    def _passed(self) -> bool:
        return all(item.passed for item in self._items)

    def _make(self, name: CheckName, do: Callable[[], tuple[T, str]]) -> T | None:
        """Make one check: its sentence, or the failure that it met."""
        self._job.check()
        self._tell_progress(name)
        try:
            found, message = do()
        except (Cancelled, ClaimLost):
            raise
        except SparsightError as error:
            self._items.append(
                CheckItem(
                    name=name,
                    passed=False,
                    code=error.code,
                    message=error.message,
                    hint=error.hint,
                )
            )
            return None
        self._items.append(CheckItem(name=name, passed=True, message=message))
        return found

    def _tell_progress(self, name: CheckName) -> None:
        self._job.progress(done=len(self._items), total=len(CheckName), unit="checks", phase=name)

    def _read_data(self) -> tuple[PreferenceSet | ConversationSet, str]:
        spec = self._spec
        data: PreferenceSet | ConversationSet
        if isinstance(spec, AlignSpec):
            data = load_preferences(spec.data, data_dir=self._job.data_dir)
            limit, what = spec.max_pairs, "pairs"
        else:
            data = load_conversations(spec.data)
            limit, what = spec.max_conversations, "conversations"
        check_enough(data, len(data.train))
        reasons = Counter(row.reason for row in data.rejected)
        facts = DataFacts(
            n_rows=data.n_rows,
            n_train=len(data.train[:limit]),
            n_held_out=len(data.held_out[: spec.training.max_eval]),
            rejected_by_reason=dict(reasons.most_common()),
        )
        self._data = facts
        return data, (
            f"{facts.n_train} {what} to train on, {facts.n_held_out} held out; "
            f"{len(data.rejected)} of {data.n_rows} rows were refused."
        )

    def _load(self) -> tuple[LoadedModel, str]:
        loaded = load_run_model(self._spec, self._job.cache_dir, self._spec.device)
        check_head(loaded.model)
        info = loaded.info
        return loaded, (
            f"{info.architecture}, {info.n_layers} layers of width {info.d_model} "
            f"on {loaded.device}."
        )

    def _read_saes(self, loaded: LoadedModel) -> tuple[tuple[Constraint, ...], str]:
        if isinstance(self._spec, SftSpec):
            return (), "Fine-tuning reads no SAE."
        found = load_constraints(self._spec, loaded, cache_dir=self._job.cache_dir)
        names = ", ".join(
            f"{c.sae_id} ({c.encoder.d_sae} features on {c.hook_name})" for c in found
        )
        return found, names or "No SAE is read."

    def _encode(
        self, data: PreferenceSet | ConversationSet, loaded: LoadedModel
    ) -> tuple[Sequence[TokenPair], str]:
        spec = self._spec
        facts = self._data
        n_train = facts.n_train if facts else 0
        if isinstance(spec, AlignSpec) and isinstance(data, PreferenceSet):
            check_lengths(spec.lengths.max_length, loaded)
            chosen = (*data.train[:n_train], *data.held_out[: spec.training.max_eval])
            pairs = encode_pairs(chosen, tokenizer=loaded.tokenizer, lengths=spec.lengths)
            sequences = sides(pairs)
        elif isinstance(spec, SftSpec) and isinstance(data, ConversationSet):
            check_lengths(spec.max_length, loaded)
            talks = (*data.train[:n_train], *data.held_out[: spec.training.max_eval])
            sequences = list(
                encode_conversations(talks, tokenizer=loaded.tokenizer, max_length=spec.max_length)
            )
            pairs = tuple(TokenPair(chosen=s, rejected=s, row=i) for i, s in enumerate(sequences))
        else:
            raise TypeError("data and settings are of the same kind")
        self._lengths = _length_facts(sequences)
        return pairs, (
            f"{self._lengths.mean_tokens:.0f} tokens on average, the longest "
            f"{self._lengths.longest_tokens}. {self._lengths.truncation}"
        )

    def _check_disk(self, loaded: LoadedModel) -> tuple[int, str]:
        needed, free = self._disk_bytes(loaded), self._free_bytes()
        if needed > free:
            raise DiskFull(
                f"Checkpoints and the trained model take {needed / 1e9:.1f} GB; "
                f"{free / 1e9:.1f} GB are free in the data folder.",
                hint="Free some space, keep fewer checkpoints, or train adapters.",
            )
        return needed, f"{needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free."

    def _check_memory(self, loaded: LoadedModel) -> tuple[int, str]:
        """Weights, gradients and optimiser alone; activations are measured."""
        weights = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
        needed = weights + 4 * self._n_trainable(loaded) * (1 + _moments(self._spec))
        if isinstance(self._spec, AlignSpec) and self._spec.needs_online_reference:
            needed += weights
        has = memory_of(loaded.device)
        if needed > has:
            raise OutOfMemory(
                f"Weights, gradients and optimiser take {needed / 1e9:.1f} GB; "
                f"{loaded.device} has {has / 1e9:.1f} GB.",
                hint="Train adapters (LoRA), use RMSProp, or a larger machine.",
            )
        return needed, (
            f"At least {needed / 1e9:.1f} GB of {has / 1e9:.1f} GB for weights, gradients and "
            "optimiser."
        )

    def _rehearse(
        self,
        loaded: LoadedModel,
        constraints: Sequence[Constraint],
        encoded: Sequence[TokenPair],
    ) -> tuple[Estimate, str]:
        facts = self._data
        rehearsal = Rehearsal(
            self._spec,
            loaded=loaded,
            constraints=constraints,
            encoded=encoded,
            n_train=facts.n_train if facts else 0,
            folder=self._folder,
            reference_root=self._job.cache_dir / "align" / "reference",
            watch=Watch(job=self._job),
        )
        has = memory_of(loaded.device)
        found = rehearsal.run(
            self._n_steps,
            memory_bytes=has,
            disk_bytes=self._disk_bytes(loaded),
            disk_free_bytes=self._free_bytes(),
        )
        self._estimate = found
        if found.peak_memory_bytes > 0.95 * has:
            raise OutOfMemory(
                f"The measured steps took {found.peak_memory_bytes / 1e9:.1f} GB; "
                f"{loaded.device} has {has / 1e9:.1f} GB.",
                hint="Use a smaller micro_batch_size, shorter lengths, or gradient checkpointing.",
            )
        return found, (
            f"{found.seconds_per_step:.2f} s a step, {found.n_steps} steps; "
            f"{found.peak_memory_bytes / 1e9:.1f} GB at most."
        )

    def _disk_bytes(self, loaded: LoadedModel) -> int:
        """Checkpoints with the one being written, the trained model, and its folder's metrics."""
        training = self._spec.training
        total = sum(p.numel() for p in loaded.model.parameters())
        checkpoint = 4 * self._n_trainable(loaded) * (1 + _moments(self._spec))
        return checkpoint * (training.keep_checkpoints + 1) + 4 * total

    def _n_trainable(self, loaded: LoadedModel) -> int:
        lora = self._spec.training.lora
        if lora is None:
            return sum(p.numel() for p in loaded.model.parameters())
        return sum(
            lora.rank * sum(module.weight.shape)
            for name, module in loaded.model.named_modules()
            if isinstance(module, torch.nn.Linear)
            and name.rpartition(".")[2] in lora.target_modules
        )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._job.work_dir).free


def memory_of(device: torch.device) -> int:
    """Bytes that a device or, for a CPU, the machine has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def _moments(spec: AlignSpec | SftSpec) -> int:
    """Numbers that the optimiser keeps for each weight."""
    return 2 if spec.training.optimizer.name is OptimizerName.ADAM else 1


def _length_facts(sequences: Sequence[TokenSequence]) -> LengthFacts:
    sizes = [len(sequence.ids) for sequence in sequences]
    cut = count_truncation(sequences)
    return LengthFacts(
        mean_tokens=sum(sizes) / len(sizes),
        longest_tokens=max(sizes),
        n_prompts_cut=cut.n_prompts_cut,
        n_answers_cut=cut.n_answers_cut,
        truncation=cut.sentence(),
    )
