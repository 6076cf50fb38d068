"""Evaluations of a run: held-out losses, accuracies and divergences, KL, and moved features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from worker.align.objective import Objective
from worker.align.training.loop import WeightedSums, deal
from worker.align.training.probe import Probe

N_MOVED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFeature:
    """A feature whose mean pooled activation moved from the reference.

    Attributes:
        chosen: policy − reference, mean over held-out chosen answers, in the SAE's units.
        rejected: the same over rejected answers.
    """

    sae_id: str
    feature: int
    chosen: float
    rejected: float


class Evaluation:
    """What is measured of a policy between steps, on the same items every time.

    Args:
        objective: held-out items; may be empty.
        batch_size: items of one forward pass.
        probe: positions for the KL to the reference; none where there is no reference.
        accelerator: the processes.
        moved: is told the features that moved most, by the step.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        batch_size: int,
        probe: Probe | None,
        accelerator: Accelerator,
        moved: Callable[[int, Sequence[MovedFeature]], None],
    ) -> None:
        self._objective = objective
        self._batch_size = batch_size
        self._probe = probe
        self._accelerator = accelerator
        self._moved = moved

    def __call__(self, policy: nn.Module, step: int) -> dict[str, float]:
        """Numbers by name, each beginning with ``eval_``; none without items."""
        values = {}
        if len(self._objective):
            sums, shifts = self._read(policy)
            values = {f"eval_{name}": sums.mean(name) for name in sums.names}
            if shifts:
                self._moved(step, most_moved(shifts, n_items=len(self._objective)))
        if self._probe is not None and self._probe.sequences:
            kl = self._probe.measure(policy, self._accelerator.device)
            values |= {"eval_probe_kl/forward": kl.forward, "eval_probe_kl/reverse": kl.reverse}
        return values

    def _read(
        self, policy: nn.Module
    ) -> tuple[WeightedSums, dict[tuple[str, str], Float[Tensor, " d_sae"]]]:
        sums = WeightedSums(self._accelerator)
        shifts: dict[tuple[str, str], Tensor] = {}
        for indices, counts in deal(
            range(len(self._objective)),
            size=self._batch_size,
            rank=self._accelerator.process_index,
            world=self._accelerator.num_processes,
        ):
            found = self._objective.read(policy, indices, training=False)
            sums.add(found, [self._objective.weight(i) * counts for i in indices])
            for key, shift in found.shifts.items():
                shifts[key] = shifts.get(key, torch.zeros_like(shift)) + shift * counts
        if self._accelerator.num_processes > 1:
            shifts = {k: self._accelerator.reduce(v, reduction="sum") for k, v in shifts.items()}
        return sums.reduced(), shifts


def most_moved(
    shifts: dict[tuple[str, str], Float[Tensor, " d_sae"]], *, n_items: int
) -> list[MovedFeature]:
    """The features of each SAE with the largest mean shift on either side, largest first."""
    found: list[MovedFeature] = []
    for sae_id in dict.fromkeys(sae_id for sae_id, _ in shifts):
        chosen, rejected = (shifts[sae_id, side] / n_items for side in ("chosen", "rejected"))
        size = torch.maximum(chosen.abs(), rejected.abs())
        ranked = size.topk(min(N_MOVED, len(size))).indices.tolist()
        found += [
            MovedFeature(
                sae_id=sae_id,
                feature=feature,
                chosen=float(chosen[feature]),
                rejected=float(rejected[feature]),
            )
            for feature in ranked
            if size[feature] > 0
        ]
    return found
