"""One policy in several processes: DDP by accelerate, FSDP by torch's ``fully_shard``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from core.domain.alignment import Strategy
from worker.align.policy import Policy
from worker.lm.hooks import layers


def share(policy: Policy, accelerator: Accelerator, strategy: Strategy) -> nn.Module:
    """The policy as the processes hold it; itself where there is only one.

    With FSDP every layer is cut by itself; embedding, final norm and head stay gathered from
    forward to backward, where the loss recomputes logits.
    """
    if accelerator.num_processes == 1 or strategy is Strategy.DDP:
        wrapped: nn.Module = accelerator.prepare_model(policy)
        return wrapped
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for layer in layers(policy.model):
        fully_shard(layer, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    return policy


@contextmanager
def gradients_kept_apart(policy: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Inside, processes add up their own gradients and do not exchange them."""
    if isinstance(policy, FSDPModule):
        policy.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            policy.set_requires_gradient_sync(True)
    else:
        with accelerator.no_sync(policy):
            yield


def clip_gradients(policy: nn.Module, limit: float) -> float:
    """Scale gradients down to a joint norm of ``limit``; returns the norm before."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    norm: torch.Tensor = torch.nn.utils.clip_grad_norm_(trainable, limit)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
