"""A few real steps of a run on a few of its items, to see what the whole of it will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from pydantic import JsonValue
from torch import nn

from core.domain.align_check import Estimate
from core.domain.alignment import AlignSpec, SftSpec
from core.errors import Cancelled
from worker.align.constraint import Constraint
from worker.align.data.pairs import TokenPair, chunks, pad_id_of
from worker.align.objective import ConversationObjective, Objective, PreferenceObjective
from worker.align.pipeline import (
    Stage,
    keep_online,
    make_trainable,
    open_policy,
    prepare_reference,
)
from worker.align.policy import Policy
from worker.align.reference_cache import ReferenceModel, missing_shards, plan_reference
from worker.align.training.launch import make_accelerator
from worker.align.training.loop import Loop, count_steps, items_of_step
from worker.align.training.memory import peak_memory_bytes
from worker.align.training.observer import Observer
from worker.lm.load import LoadedModel
from worker.progress import JobContext

_EVALUATED = 8  # items of the measured evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A job as the sink of a rehearsal: it can be stopped, and its numbers go nowhere."""

    job: JobContext

    def wrote_step(self) -> None:
        """Steps of a rehearsal are not told."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """The checks are what is counted."""

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """A line of a known kind for the job's log."""
        self.job.tell(kind, **values)

    def stop_requested(self) -> bool:
        """Whether the job was cancelled."""
        try:
            self.job.check()
        except Cancelled:
            return True
        return False


class Rehearsal:
    """Measures a run with its own code on the items of its first steps.

    One micro-batch of the longest items goes first: it takes the most memory, and whatever is slow
    at first is over when the clock starts.
    """

    def __init__(
        self,
        spec: AlignSpec | SftSpec,
        *,
        loaded: LoadedModel,
        constraints: Sequence[Constraint],
        encoded: Sequence[TokenPair],
        n_train: int,
        folder: Path,
        reference_root: Path,
        watch: Watch,
    ) -> None:
        self._spec = spec
        self._loaded = loaded
        self._constraints = constraints
        self._encoded = encoded
        self._n_train = n_train
        self._reference_root = reference_root
        self._watch = watch
        self._accelerator: Accelerator = make_accelerator(device=spec.device)
        self._stage = Stage(
            folder=folder,
            reference_root=folder / "reference",
            accelerator=self._accelerator,
            observer=Observer(folder, watch, is_main=False, tensorboard=False),
        )

    def run(
        self, n_steps: int, *, memory_bytes: int, disk_bytes: int, disk_free_bytes: int
    ) -> Estimate:
        """Measure so many steps and reckon what all of them take.

        Raises:
            TrainingDiverged: a loss is not finite.
            OutOfMemory: a micro-batch does not fit.
            Cancelled: asked to stop.
        """
        spec = self._spec
        total = count_steps(self._n_train, spec.training)
        n_steps = min(n_steps, total)
        steps = [items_of_step(step, self._n_train, spec.training) for step in range(n_steps)]
        longest = self._longest(spec.training.micro_batch_size)
        chosen = list(dict.fromkeys([*longest, *(item for items in steps for item in items)]))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        objective, policy, per_pair, per_pair_bytes = self._prepare(chosen)
        place = {item: number for number, item in enumerate(chosen)}
        loop = Loop(
            policy=policy,
            objective=objective,
            spec=spec.training,
            accelerator=self._accelerator,
            folder=self._stage.folder,
            identity="rehearsal",
            strategy=spec.launch.strategy,
        )
        loop.step_on([place[item] for item in longest], 0)
        measured = []
        for number, items in enumerate(steps):
            if self._watch.stop_requested():
                raise Cancelled("The check was asked to stop.")
            started = time.monotonic()
            values = loop.step_on([place[item] for item in items], number)
            measured.append((time.monotonic() - started, values))
        per_item = self._evaluate(objective, loop.policy)
        return self._estimate(
            measured,
            total=total,
            reference=per_pair * self._n_missing(policy.compute),
            per_item=per_item,
            memory_bytes=memory_bytes,
            disk_bytes=disk_bytes + int(per_pair_bytes * len(self._encoded)),
            disk_free_bytes=disk_free_bytes,
        )

    def _longest(self, n: int) -> list[int]:
        def size(item: int) -> int:
            pair = self._encoded[item]
            return max(len(pair.chosen.ids), len(pair.rejected.ids))

        return sorted(range(self._n_train), key=lambda item: (-size(item), item))[:n]

    def _prepare(self, chosen: Sequence[int]) -> tuple[Objective, Policy, float, float]:
        """Objective on the chosen items, the policy, and seconds and bytes of a reference pair."""
        spec, loaded = self._spec, self._loaded
        policy = open_policy(loaded, spec.dtype)
        pairs = [self._encoded[item] for item in chosen]
        device, pad_id = self._accelerator.device, pad_id_of(loaded.tokenizer)
        if isinstance(spec, SftSpec):
            make_trainable(policy, spec.training)
            sequences = [pair.chosen for pair in pairs]
            talks = ConversationObjective(sequences=sequences, pad_id=pad_id, device=device)
            return talks, policy, 0.0, 0.0
        started = time.monotonic()
        cache, _ = prepare_reference(
            spec=spec,
            encoded=pairs,
            n_train=len(pairs),
            policy=policy,
            constraints=self._constraints,
            stage=self._stage,
            loaded=loaded,
        )
        seconds = (time.monotonic() - started) / len(pairs)
        online = keep_online(spec, policy, pairs, self._constraints, self._stage)
        make_trainable(policy, spec.training)
        objective = PreferenceObjective(
            spec=spec,
            pairs=pairs,
            places=range(len(pairs)),
            reference=cache,
            constraints=self._constraints,
            online=online,
            pad_id=pad_id,
            device=device,
        )
        return objective, policy, seconds, sum(cache.bytes_per_pair.values())

    def _n_missing(self, compute: torch.dtype) -> int:
        """Pairs whose reference no earlier run has computed."""
        spec = self._spec
        if isinstance(spec, SftSpec):
            return 0
        model = ReferenceModel(revision=self._loaded.info.revision, compute=compute)
        plan = plan_reference(
            self._encoded, model=model, constraints=self._constraints, root=self._reference_root
        )
        return min(len(self._encoded), len(missing_shards(plan)) * plan.shard_pairs)

    def _evaluate(self, objective: Objective, policy: nn.Module) -> float:
        """Seconds of an evaluation for each item."""
        places = range(min(_EVALUATED, len(objective)))
        policy.eval()
        started = time.monotonic()
        with torch.no_grad():
            for some in chunks(places, self._spec.training.micro_batch_size):
                objective.read(policy, some, training=False)
        return (time.monotonic() - started) / len(places)

    def _estimate(
        self,
        measured: Sequence[tuple[float, dict[str, float]]],
        *,
        total: int,
        reference: float,
        per_item: float,
        memory_bytes: int,
        disk_bytes: int,
        disk_free_bytes: int,
    ) -> Estimate:
        training = self._spec.training
        seconds = sum(taken for taken, _ in measured)
        n_evaluations = 1 + total // training.eval_every + (total % training.eval_every > 0)
        n_held_out = len(self._encoded) - self._n_train
        evaluations = n_evaluations * n_held_out * per_item
        per_step = seconds / len(measured)
        return Estimate(
            n_steps=total,
            seconds_per_step=per_step,
            seconds_reference=reference,
            seconds_evaluations=evaluations,
            seconds=reference + evaluations + per_step * total,
            tokens_per_second=sum(values["num_tokens"] for _, values in measured) / seconds,
            peak_memory_bytes=peak_memory_bytes(self._accelerator.device),
            memory_bytes=memory_bytes,
            disk_bytes=disk_bytes,
            disk_free_bytes=disk_free_bytes,
            losses=tuple(values["loss"] for _, values in measured),
            device=str(self._accelerator.device),
        )
