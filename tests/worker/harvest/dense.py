"""The same numbers by brute force: dense arrays, plain loops, no code of the harvest."""

import itertools
import math
from fractions import Fraction

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def key(seed: int, stream: int, *numbers: int) -> int:
    state = mix((seed + stream * GOLDEN) & MASK)
    for number in numbers:
        state = mix((state + GOLDEN * (number + 1)) & MASK)
    return state >> 1


def draw(seed: int, n_contexts: int, n: int) -> list[int]:
    return sorted(range(n_contexts), key=lambda c: (key(seed, 1, c), c))[:n]


def peaks(acts, feature: int):
    """Largest activation of each context; values that differ by rounding alone become equal.

    Two contexts that begin alike have equal activations there, up to rounding.
    """
    peak = acts[:, :, feature].max(axis=1)
    order = np.argsort(peak)
    for lower, upper in itertools.pairwise(order):
        if peak[upper] - peak[lower] <= 3e-6 * peak[upper]:
            peak[upper] = peak[lower]
    return peak


def kept(peak, feature: int, *, n_top: int, n_sampled: int, n_per_band: int, seed: int):
    """(band, context) of one feature, in the order of pages, by each context's peak."""
    firing = [c for c in range(len(peak)) if peak[c] > 0]
    by_peak = sorted(firing, key=lambda c: (-peak[c], c))
    top = by_peak[:n_top]
    sample = sorted(firing, key=lambda c: (key(seed, 2, c, feature), c))[:n_sampled]
    rows = [(0, c) for c in top]
    ascending = [c for c in by_peak if c in sample][::-1]
    for quarter in range(4):
        band = [c for a, c in enumerate(ascending) if 4 * a // len(ascending) == quarter]
        band = [c for c in band if c not in top]
        band = sorted(band, key=lambda c: (key(seed, 2, c, feature), c))[:n_per_band]
        rows += [(4 - quarter, c) for c in band]
    return sorted(rows, key=lambda row: (row[0], -peak[row[1]], row[1]))


def histogram(values) -> tuple[int, list[int]]:
    if not len(values):
        return 0, [0] * 64
    exponent = math.frexp(max(values))[1]
    counts = [0] * 64
    for value in values:
        counts[math.floor(Fraction(float(value)) * 64 / Fraction(2) ** exponent)] += 1
    return exponent, counts


def phi(first, second) -> float:
    """Pearson's correlation of two indicators."""
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
