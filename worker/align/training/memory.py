"""Memory: peaks of this process, and bytes that a forward pass saves for its backward pass."""

import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_STATUS = Path("/proc/self/status")


@dataclass(slots=True)
class SavedBytes:
    """Bytes of the distinct storages that autograd saved."""

    total: int = 0


@contextmanager
def saved_for_backward(*, leaving_out: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Inside, storages that autograd saves are counted once each.

    Args:
        leaving_out: tensors whose storages exist anyway, such as inputs and weights.
    """
    counted = SavedBytes()
    seen = {tensor.untyped_storage().data_ptr() for tensor in leaving_out}
    alive: list[Tensor] = []  # an address is not used again while its storage lives

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor)
            counted.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield counted


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of the accelerator's memory, or of this process's resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():  # getrusage would tell the parent's peak where that was higher
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
