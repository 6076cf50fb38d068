"""Optimisers and learning-rate schedules, without state of their own beyond the optimiser's."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from core.domain.alignment import OptimizerName, OptimizerSpec, Schedule


def make_optimizer(
    parameters: Iterable[nn.Parameter], spec: OptimizerSpec
) -> torch.optim.Optimizer:
    """Adam (decoupled weight decay) or RMSProp over the given parameters.

    Adam runs fused: one pass over weights and moments, without temporaries as large as the model.
    """
    match spec.name:
        case OptimizerName.ADAM:
            return torch.optim.AdamW(
                parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
            )
        case OptimizerName.RMSPROP:
            return torch.optim.RMSprop(parameters, lr=spec.learning_rate)


def learning_rate(spec: OptimizerSpec, *, step: int, total: int) -> float:
    """Learning rate of step ``step`` (from 0) of ``total``: a pure function, so resuming is exact.

    >>> spec = OptimizerSpec(learning_rate=1.0, warmup_steps=4)
    >>> [learning_rate(spec, step=s, total=10) for s in (0, 1, 3, 4, 9)]
    [0.25, 0.5, 1.0, 1.0, 1.0]
    """
    warm = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    left = max(0.0, (total - step) / max(1, total - spec.warmup_steps))
    match spec.schedule:
        case Schedule.CONSTANT:
            factor = 1.0
        case Schedule.LINEAR:
            factor = min(1.0, left)
        case Schedule.COSINE:
            factor = 0.5 * (1 + math.cos(math.pi * (1 - min(1.0, left))))
    return spec.learning_rate * warm * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every parameter group the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value
