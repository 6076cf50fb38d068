"""Uniform samples of a stream: the entries of smallest keyed hash.

Such a sample does not depend on order, batches or shards, and the sample of two streams together
is the smallest of both samples. The hash is the finaliser of splitmix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), chained over the numbers it keys.
"""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

CONTEXT_STREAM = 1
PAIR_STREAM = 2
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_CHUNK = 1 << 20


def pair_keys(
    seed: int, feature: Int64[Tensor, " pair"], context: Int64[Tensor, " pair"]
) -> Int64[Tensor, " pair"]:
    """Sampling keys of (feature, context) pairs, uniform over [0, 2**63).

    >>> pair_keys(0, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])).tolist()
    [4635879678023765015, 4905564105543639439, 5354679218300372251]
    """
    return _logical_shift(_chain(_chain(_start(seed, PAIR_STREAM), context), feature), 1)


def context_keys(seed: int, context: Int64[Tensor, " context"]) -> Int64[Tensor, " context"]:
    """Sampling keys of contexts, uniform over [0, 2**63); independent of the pairs' keys."""
    return _logical_shift(_chain(_start(seed, CONTEXT_STREAM), context), 1)


def sample_contexts(seed: int, n_contexts: int, n: int) -> Int64[np.ndarray, " sampled"]:
    """The ``n`` contexts of smallest key among ``n_contexts``, smallest key first.

    All of them, if there are no more than ``n``.
    """
    chosen = np.empty(0, np.int64)
    for first in range(0, n_contexts if n else 0, _CHUNK):
        fresh = np.arange(first, min(first + _CHUNK, n_contexts), dtype=np.int64)
        chosen = np.concatenate([chosen, fresh])
        keys = context_keys(seed, torch.from_numpy(chosen)).numpy()
        chosen = chosen[np.lexsort((chosen, keys))[:n]]
    return chosen


def _start(seed: int, stream: int) -> Tensor:
    return _mix(torch.tensor(_signed(seed + _GOLDEN * stream), dtype=torch.int64))


def _chain(state: Tensor, number: Tensor) -> Tensor:
    return _mix(state.to(number.device) + _GOLDEN * (number + 1))


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _logical_shift(x, 30)) * _FIRST
    x = (x ^ _logical_shift(x, 27)) * _SECOND
    return x ^ _logical_shift(x, 31)


def _signed(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _logical_shift(x: Tensor, n: int) -> Tensor:
    return (x >> n) & ((1 << (64 - n)) - 1)
