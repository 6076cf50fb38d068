"""Memory that runs out, told in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from core.errors import OutOfMemory


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Inside, memory that runs out becomes OutOfMemory.

    Args:
        doing: what is being done, for the message: ``running the model``.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _explain(doing) from error
    except RuntimeError as error:
        # What torch says on a CPU, and on MPS.
        if not any(words in str(error) for words in ("can't allocate memory", "out of memory")):
            raise
        raise _explain(doing) from error


def _explain(doing: str) -> OutOfMemory:
    return OutOfMemory(
        f"Memory ran out while {doing}.",
        hint="Use fewer batch_tiles or SAEs, a shorter context, or a larger machine.",
    )
