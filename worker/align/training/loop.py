"""The training loop: steps over items in a seeded order, the same however they are cut up.

A step's items are cut into micro-batches of about equal lengths, so that little is padding, and
dealt to the processes in turn; where they do not deal out evenly, a process repeats items with
weight 0, so all do the same number of passes. The loss of a step is Σ weight · loss / Σ weight
over its items, whatever the micro-batch size or the number of processes. The last, partial batch
of an epoch is a step too.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from pydantic import JsonValue
from torch import Tensor, nn

from core.domain.alignment import Strategy, TrainingSpec
from core.errors import Cancelled, TrainingDiverged
from worker.align.data.pairs import chunks
from worker.align.objective import Contribution, Objective
from worker.align.policy import Policy
from worker.align.training.checkpoint import (
    Position,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from worker.align.training.memory import peak_memory_bytes
from worker.align.training.optim import learning_rate, make_optimizer, set_learning_rate
from worker.align.training.parallel import clip_gradients, gradients_kept_apart, share
from worker.memory import memory_errors


@runtime_checkable  # tests check arguments by it
class Watcher(Protocol):
    """Who is told of steps and says when to stop; only the main process's is told."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a finished step; step 0 is the evaluation before the first."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Steps done so far."""

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """A line of a known kind for the log."""

    def stop_requested(self) -> bool:
        """Whether somebody asked to stop."""


Evaluate = Callable[[nn.Module, int], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished run: the policy as it was wrapped, and its number of steps."""

    policy: nn.Module
    steps: int


def count_steps(n_items: int, spec: TrainingSpec) -> int:
    """Steps of a run."""
    every = -(-n_items // spec.batch_size) * spec.epochs
    return every if spec.max_steps is None else min(every, spec.max_steps)


def items_of_step(step: int, n_items: int, spec: TrainingSpec) -> list[int]:
    """Items of step ``step`` (from 0): a slice of the epoch's permutation, by seed and epoch."""
    per_epoch = -(-n_items // spec.batch_size)
    epoch, place = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + epoch)
    order = torch.randperm(n_items, generator=generator)
    return order[place * spec.batch_size : (place + 1) * spec.batch_size].tolist()


def train(
    policy: Policy,
    *,
    objective: Objective,
    evaluate: Evaluate,
    spec: TrainingSpec,
    accelerator: Accelerator,
    folder: Path,
    identity: str,
    watcher: Watcher,
    strategy: Strategy,
) -> Trained:
    """Train to the end, from the newest checkpoint if there is one.

    Raises:
        Cancelled: asked to stop; the state was saved at a step's boundary.
        TrainingDiverged: a loss or gradient is not finite; nothing was saved after the last
            good step.
        Conflict: the checkpoint is of other settings.
    """
    loop = Loop(
        policy=policy,
        objective=objective,
        spec=spec,
        accelerator=accelerator,
        folder=folder,
        identity=identity,
        strategy=strategy,
    )
    step = loop.resume()
    if step:
        watcher.tell("align_goes_on", step=step, total=loop.total)
    else:
        watcher.step(0, loop.evaluation(evaluate, 0))
    while step < loop.total:
        if loop.agree(watcher.stop_requested()):
            if step:  # before the first step there is nothing to keep, not even moments
                loop.save(step)
                watcher.tell("align_saved", step=step)
            raise Cancelled("The run was asked to stop; its state is saved.")
        values = loop.step(step, interrupted=watcher.stop_requested)
        if values is None:
            continue
        step += 1
        if step % spec.eval_every == 0 or step == loop.total:
            values |= loop.evaluation(evaluate, step)
        watcher.step(step, values)
        watcher.progress(done=step, total=loop.total, phase="training")
        if step % spec.save_every == 0 or step == loop.total:
            loop.save(step)
            watcher.tell("align_saved", step=step)
    return Trained(policy=loop.policy, steps=step)


class _GivenUpError(Exception):
    """A step was given up between two micro-batches."""


def _never() -> bool:
    return False


class Loop:
    """Policy, optimiser and processes of one run."""

    def __init__(
        self,
        *,
        policy: Policy,
        objective: Objective,
        spec: TrainingSpec,
        accelerator: Accelerator,
        folder: Path,
        identity: str,
        strategy: Strategy,
    ) -> None:
        self.policy = share(policy, accelerator, strategy)
        trainable = [p for p in self.policy.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(trainable, spec.optimizer)
        self._objective = objective
        self._spec = spec
        self._accelerator = accelerator
        self._checkpoints = folder / "checkpoints"
        self._identity = identity
        self.total = count_steps(len(objective), spec)

    def resume(self) -> int:
        """Steps that the newest checkpoint has done; 0 without one."""
        newest = latest_checkpoint(self._checkpoints)
        if newest is None:
            return 0
        position = load_checkpoint(
            newest, policy=self.policy, optimizer=self._optimizer, identity=self._identity
        )
        return position.step

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        save_checkpoint(
            self._checkpoints,
            Position(step=step, identity=self._identity),
            policy=self.policy,
            optimizer=self._optimizer,
            keep=self._spec.keep_checkpoints,
            is_main=self._accelerator.is_main_process,
        )
        self._accelerator.wait_for_everyone()

    def agree(self, stop: bool) -> bool:
        """Whether any process wants to stop."""
        if self._accelerator.num_processes == 1:
            return stop
        votes = torch.tensor([float(stop)], device=self._accelerator.device)
        return bool(self._accelerator.reduce(votes, reduction="sum").item() > 0)

    def evaluation(self, evaluate: Evaluate, step: int) -> dict[str, float]:
        """What the evaluation measures, in evaluation mode, with its duration.

        Raises:
            TrainingDiverged: a number is not finite.
        """
        started = time.monotonic()
        self.policy.eval()
        with torch.no_grad():
            values = evaluate(self.policy, step)
        for name, value in values.items():
            _finite(value, f"{name.removeprefix('eval_')} of the evaluation", step)
        return values | {"eval_runtime": time.monotonic() - started}

    def step(
        self, step: int, *, interrupted: Callable[[], bool] = _never
    ) -> dict[str, float] | None:
        """One optimiser step; its numbers, or None where it was given up half-way.

        A process that trains alone asks between micro-batches whether to go on: a step may take
        minutes, and what it has added up is worth nothing before its end. Several processes stop
        at a step's boundary, where they agree.
        """
        items = items_of_step(step, len(self._objective), self._spec)
        if self._accelerator.num_processes > 1:
            return self.step_on(items, step)
        try:
            return self.step_on(items, step, interrupted=interrupted)
        except _GivenUpError:
            self._optimizer.zero_grad(set_to_none=True)
            return None

    def step_on(
        self, items: Sequence[int], step: int, *, interrupted: Callable[[], bool] = _never
    ) -> dict[str, float]:
        """One optimiser step on given items, with the learning rate of step ``step``."""
        started = time.monotonic()
        self.policy.train()
        rate = learning_rate(self._spec.optimizer, step=step, total=self.total)
        set_learning_rate(self._optimizer, rate)
        with memory_errors("training"):
            sums = self._accumulate(items, interrupted)
            loss, *_ = [_finite(sums.mean(name), name, step + 1) for name in sums.names]
            limit = self._spec.optimizer.max_grad_norm or math.inf
            norm = _finite(clip_gradients(self.policy, limit), "gradient", step + 1)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss,
            **{name: sums.mean(name) for name in sums.names if name != "loss"},
            "grad_norm": norm,
            "learning_rate": rate,
            "num_tokens": sums.n_tokens,
            "tokens_per_second": sums.n_tokens / (time.monotonic() - started),
            "peak_memory_bytes": float(peak_memory_bytes(self._accelerator.device)),
        }

    def _accumulate(self, items: Sequence[int], interrupted: Callable[[], bool]) -> "WeightedSums":
        total = sum(self._objective.weight(i) for i in items)
        passes = list(
            deal(
                sorted(items, key=self._objective.length),
                size=self._spec.micro_batch_size,
                rank=self._accelerator.process_index,
                world=self._accelerator.num_processes,
            )
        )
        sums = WeightedSums(self._accelerator)
        for number, (indices, counts) in enumerate(passes):
            if number and interrupted():
                raise _GivenUpError
            last = number == len(passes) - 1
            with nullcontext() if last else gradients_kept_apart(self.policy, self._accelerator):
                found = self._objective.read(self.policy, indices, training=True)
                weights = [self._objective.weight(i) * counts for i in indices]
                share = found.losses.new_tensor(weights) / total
                # Data-parallel wrappers average gradients over processes; the loss is a sum.
                loss = (found.losses * share).sum() * self._accelerator.num_processes
                loss.backward()
            sums.add(found, weights)
        return sums.reduced()


class WeightedSums:
    """Weighted sums of losses and metrics over micro-batches and processes."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._sums: dict[str, Tensor] = {}
        self.n_tokens = 0.0

    @property
    def names(self) -> list[str]:
        """Names of what was added."""
        return [name for name in self._sums if name != ""]

    def add(self, found: Contribution, weights: Sequence[float]) -> None:
        """Add a micro-batch."""
        w = torch.tensor(weights, dtype=torch.float64, device=found.losses.device)
        for name, values in {"loss": found.losses.detach(), **found.metrics, "": w / w}.items():
            part = torch.where(w > 0, w * values.double(), torch.zeros_like(w)).sum()
            self._sums[name] = self._sums.get(name, torch.zeros_like(part)) + part
        self.n_tokens += found.n_tokens * float(w.sum() > 0)

    def reduced(self) -> "WeightedSums":
        """The sums over all processes."""
        if self._accelerator.num_processes > 1:
            names = list(self._sums)
            tokens = torch.tensor(self.n_tokens, dtype=torch.float64)
            device = self._accelerator.device
            both = torch.stack([*self._sums.values(), tokens.to(device)])
            *values, n_tokens = self._accelerator.reduce(both, reduction="sum")
            self._sums = dict(zip(names, values, strict=True))
            self.n_tokens = float(n_tokens)
        return self

    def mean(self, name: str) -> float:
        """Mean of a number over the items, by their weights."""
        return float(self._sums[name] / self._sums[""])


def deal(
    items: Sequence[int], *, size: int, rank: int, world: int
) -> Iterator[tuple[Sequence[int], float]]:
    """Micro-batches of one process, each with 1, or 0 where it only keeps the others company.

    >>> list(deal([7, 8, 9], size=1, rank=1, world=2))
    [([8], 1.0), ([7], 0.0)]
    """
    parts = list(chunks(items, size))
    rounds = -(-len(parts) // world)
    for turn in range(rounds):
        number = turn * world + rank
        yield (parts[number], 1.0) if number < len(parts) else (parts[0], 0.0)


def _finite(value: float, what: str, step: int) -> float:
    if math.isfinite(value):
        return value
    raise TrainingDiverged(
        f"The {what} is not finite (step {step}); the last checkpoint is kept.",
        hint="Lower the learning rate or beta, or train in float32; resuming starts from the "
        "last checkpoint.",
    )
