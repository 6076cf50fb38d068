"""Fewer passes of the garbage collector while a run keeps many small values alive."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS = 20_000  # between passes over the youngest; Python's own number is 700
_PASSES = (20, 20)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Leave out of every pass what is there already, and look seldom at what is new.

    The values of a run hardly ever hold each other in circles, and records, prompts and answers
    are many: looking through them again and again took a fifteenth of a run's processor time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *_PASSES)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
