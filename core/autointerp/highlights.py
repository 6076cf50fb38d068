"""Contexts as running text with the active tokens marked.

A token is active when it is positive and reaches 0.3 of its context's maximum. Delphi's own rules
stand below for comparison: its scorer marks every token of a silent context, since 0 >= 0.
"""

import math
import random
from collections.abc import Callable, Sequence
from itertools import groupby

from core.autointerp.finite import check_finite
from core.autointerp.text import visible
from core.domain.activation import ActivationRecord
from core.domain.explanation import Number
from core.errors import Invalid

THRESHOLD = 0.3
DELPHI_MARKS = ("<<", ">>")
_DELPHI_SEED = 22
_DELPHI_SHOWN = 11


def active_positions(record: ActivationRecord, *, threshold: Number = THRESHOLD) -> frozenset[int]:
    """Positions whose activation is positive and at least ``threshold`` of the maximum.

    >>> sorted(active_positions(ActivationRecord(tokens=("a", "b"), activations=(0.0, 0.0))))
    []
    """
    top = max(record.activations, default=0.0)
    return frozenset(i for i, a in enumerate(record.activations) if a > 0 and a >= threshold * top)


def marked_text(tokens: Sequence[str], marked: frozenset[int], marks: tuple[str, str]) -> str:
    """The tokens joined on one line, runs of marked ones between the two marks.

    Raises:
        Invalid: a mark occurs in the text, so that nobody could tell the two apart, or there is no
            such position.
    """
    if any(not 0 <= place < len(tokens) for place in marked):
        raise Invalid("A marked position is outside of the text.", hint="Mark tokens that exist.")
    if any(mark in visible("".join(tokens)) for mark in marks):
        raise Invalid(f"The text holds {marks[0]} or {marks[1]}.", hint="Choose unused marks.")
    return _joined(tokens, lambda i: i in marked, marks, show=visible)


def wrong_positions(record: ActivationRecord, n: int, *, rng: random.Random) -> frozenset[int]:
    """Positions to mark although they are not active: n of them, or as many as there are."""
    active = active_positions(record)
    silent = [i for i in range(len(record.tokens)) if i not in active]
    return frozenset(rng.sample(silent, min(n, len(silent))))


def mean_active(records: Sequence[ActivationRecord]) -> int:
    """Active tokens a context holds on average, rounded up; at least 1."""
    counts = [len(active_positions(record)) for record in records]
    return max(1, math.ceil(sum(counts) / len(counts))) if counts else 1


def highlight_delphi_scorer(
    tokens: Sequence[str], activations: Sequence[Number], *, threshold: Number = THRESHOLD
) -> str:
    """Delphi's fuzzing text: ``activation >= threshold * max``, so a silent context is all marked.

    Source: eai-delphi 0.1.3, ``scorers/classifier/sample.py``.

    Raises:
        Invalid: not one finite activation for each token.
    """
    _check_each(tokens, activations)
    limit = threshold * max(activations, default=0)
    return _joined(tokens, lambda i: activations[i] >= limit, DELPHI_MARKS)


def highlight_delphi_explainer(
    tokens: Sequence[str], activations: Sequence[Number], *, threshold: Number = THRESHOLD
) -> str:
    """Delphi's explainer text: ``activation > threshold * max``.

    Source: eai-delphi 0.1.3, ``explainers/explainer.py``.

    Raises:
        Invalid: not one finite activation for each token.
    """
    _check_each(tokens, activations)
    limit = threshold * max(activations, default=0)
    return _joined(tokens, lambda i: activations[i] > limit, DELPHI_MARKS)


def activation_list_delphi(
    tokens: Sequence[str],
    activations: Sequence[Number],
    normalised: Sequence[Number],
    *,
    threshold: Number = THRESHOLD,
) -> str:
    """Delphi's line of ``("token" : n)`` pairs above the threshold; at most 11 are shown.

    Raises:
        Invalid: not one finite activation, raw and normalised, for each token.
    """
    _check_each(tokens, activations)
    _check_each(tokens, normalised)
    limit = threshold * max(activations, default=0)
    places = [i for i, a in enumerate(activations) if a > limit][:_DELPHI_SHOWN]
    return "Activations: " + "".join(f'("{tokens[i]}" : {int(normalised[i])}), ' for i in places)


def n_incorrect_delphi(activations: Sequence[Sequence[Number]]) -> int:
    """How many tokens delphi marks wrongly: mean count of non-zero activations, rounded up.

    Raises:
        Invalid: no contexts.
    """
    if not activations:
        raise Invalid("No contexts to count in.", hint="Give at least one.")
    counts = [sum(a != 0 for a in context) for context in activations]
    return math.ceil(sum(counts) / len(counts))


def incorrect_positions_delphi(
    activations: Sequence[Number], n_incorrect: int, *, threshold: Number = THRESHOLD
) -> frozenset[int]:
    """Positions delphi marks wrongly: ``len - len // 4`` first, the rest drawn with seed 22."""
    limit = threshold * max(activations, default=0)
    below = [i for i, a in enumerate(activations) if a <= limit]
    n = min(n_incorrect, len(below))
    fixed = len(activations) - len(activations) // 4
    rng = random.Random(_DELPHI_SEED)  # noqa: S311 - the peer's fixed seed
    if fixed not in below:
        return frozenset(rng.sample(below, n))
    below.remove(fixed)
    return frozenset([fixed, *rng.sample(below, max(0, n - 1))])


def _check_each(tokens: Sequence[str], activations: Sequence[Number]) -> None:
    if len(tokens) != len(activations):
        raise Invalid(
            f"{len(tokens)} tokens but {len(activations)} activations.",
            hint="Give one activation a token.",
        )
    check_finite(activations, what="Activation")


def _joined(
    tokens: Sequence[str],
    check: Callable[[int], bool],
    marks: tuple[str, str],
    *,
    show: Callable[[str], str] = str,
) -> str:
    parts = []
    for marked, places in groupby(range(len(tokens)), key=check):
        text = show("".join(tokens[i] for i in places))
        parts.append(f"{marks[0]}{text}{marks[1]}" if marked else text)
    return "".join(parts)
