"""Which processor tensors live on."""

import torch

from core.domain.model import Dtype
from core.errors import Invalid

TORCH_DTYPES = {Dtype.FLOAT32: torch.float32, Dtype.BFLOAT16: torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """The device that a name means; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        Invalid: no such device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise Invalid(
            f"This machine has no device {name!r}.",
            hint=f"Choose auto or {_best()}; cuda needs an NVIDIA or ROCm driver and such a torch.",
        ) from error
    if device.type not in {"cpu", "cuda", "mps"}:
        raise Invalid(f"Models do not run on {name!r}.", hint="Choose auto, cpu, cuda or mps.")
    return device


def choose_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """The number format as torch names it.

    Raises:
        Invalid: the device cannot hold it.
    """
    chosen = TORCH_DTYPES[dtype]
    try:
        torch.zeros(1, device=device, dtype=chosen).add(1)
    except (RuntimeError, TypeError) as error:
        raise Invalid(f"{device} has no {dtype.value}.", hint="Choose float32.") from error
    return chosen


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
