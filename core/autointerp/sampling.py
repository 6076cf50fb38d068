"""Which contexts an explanation is made from, and which it is scored on.

The two never share a context, nor its text. Peers let them overlap: delphi draws both with one
seed from the same windows, and others do not look at equal texts under different numbers.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from core.domain.activation import ActivationRecord, Band
from core.errors import Invalid


class SplitName(StrEnum):
    """What a group of records is for."""

    EXPLAIN = "train"  # OpenAI's names as values
    CALIBRATE = "calibration"
    SCORE = "valid"
    TEST = "test"


TOP_SPLITS = tuple(SplitName)
RANDOM_SPLITS = (SplitName.CALIBRATE, SplitName.SCORE, SplitName.TEST)


def split_indices(
    n_available: int, splits: Sequence[SplitName], *, n_per_split: int | None = None
) -> dict[SplitName, tuple[int, ...]]:
    """Interleaved places of each split: split i takes i, i + s, i + 2 s … of s splits.

    Source: OpenAI's ``get_slices_for_splits``. Top records use ``TOP_SPLITS``, random ones
    ``RANDOM_SPLITS``. Without ``n_per_split`` it is ``n_available // s``.

    >>> split_indices(8, TOP_SPLITS)[SplitName.SCORE]
    (2, 6)

    Raises:
        Invalid: too few records, or none for each split.
    """
    if not splits:
        raise Invalid("No splits to fill.", hint="Name at least one.")
    stride = len(splits)
    n = n_available // stride if n_per_split is None else n_per_split
    if n < 1 or n * stride > n_available:
        raise Invalid(
            f"{n_available} records do not fill {stride} splits of {max(n, 1)}.",
            hint=f"Give at least {max(n, 1) * stride} records.",
        )
    return {split: tuple(range(i, n * stride, stride)) for i, split in enumerate(splits)}


def quantile_bounds(n_items: int, n_quantiles: int) -> tuple[tuple[int, int], ...]:
    """Half-open bounds of equal slices of a ranked list; the remainder is left out.

    Source: delphi's ``split_quantiles``; with items by maximum descending, slice 0 is strongest.
    Fewer items than slices give empty ones.

    >>> quantile_bounds(23, 10)[-1]
    (18, 20)
    """
    if n_quantiles < 1 or n_items < 0:
        raise Invalid(
            f"{n_items} items cannot be cut into {n_quantiles} slices.",
            hint="Give at least one slice.",
        )
    size = n_items // n_quantiles
    return tuple((i * size, (i + 1) * size) for i in range(n_quantiles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A record with the number of its context and the reason why it was kept.

    Attributes:
        context_index: names the context in its harvest.
        peak: the largest activation; 0 without tokens.
    """

    context_index: int
    band: Band
    record: ActivationRecord = field(repr=False)
    peak: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak", float(max(self.record.activations, default=0.0)))

    @property
    def text(self) -> str:
        """The joined tokens."""
        return "".join(self.record.tokens)

    @property
    def firing(self) -> bool:
        """Whether any activation is positive."""
        return self.peak > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenSplit:
    """Specimens by what they are for; no context and no text is in two groups.

    Attributes:
        explain: strongest contexts, for the explainer.
        calibrate_top, calibrate_random: for the line from simulated to real activations.
        score_top, score_random: for simulation scores.
        positives: firing contexts of all bands, for detection and fuzzing.
        negatives: silent contexts, for detection and fuzzing.
        kept: every specimen with a text of its own, strongest first.
        n_duplicates: specimens left out because their text occurred before.
    """

    explain: tuple[Specimen, ...]
    calibrate_top: tuple[Specimen, ...]
    calibrate_random: tuple[Specimen, ...]
    score_top: tuple[Specimen, ...]
    score_random: tuple[Specimen, ...]
    positives: tuple[Specimen, ...]
    negatives: tuple[Specimen, ...]
    kept: tuple[Specimen, ...]
    n_duplicates: int

    def held_out_from(self, scored: Iterable[Specimen]) -> tuple[Specimen, ...]:
        """Every kept specimen except these: what a lookup table may be built from."""
        taken = {specimen.context_index for specimen in scored}
        return tuple(s for s in self.kept if s.context_index not in taken)


def split_specimens(
    specimens: Iterable[Specimen],
    *,
    rng: random.Random,
    n_explain: int = 5,
    n_score: int = 5,
    n_judged: int = 20,
) -> SpecimenSplit:
    """Groups for explaining, calibrating and scoring.

    Top contexts are interleaved over explain, calibrate and score by OpenAI's rule, random ones
    over calibrate and score. Positives for judging come in equal numbers from every band that was
    not explained from; negatives are random contexts on which the feature is silent.

    Args:
        specimens: every kept context of one feature; order does not matter.
        rng: source of randomness for negatives and band samples.
        n_explain: contexts for the explainer, at most.
        n_score: top contexts, and random contexts, for a simulation score, at most each.
        n_judged: positives, and negatives, for detection and fuzzing, at most each.

    Raises:
        Invalid: fewer than two firing contexts, so that nothing is left to score on.
    """
    kept, n_duplicates = distinct_texts(specimens)
    firing = {s.context_index for s in kept if s.firing}
    top = [s for s in kept if s.band is Band.TOP and s.context_index in firing]
    if len(top) < 2:
        raise Invalid(
            f"{len(top)} distinct firing contexts are too few to explain from and score on.",
            hint="Harvest more text, or choose a feature that fires more often.",
        )
    stride = len(TOP_SPLITS) if len(top) >= len(TOP_SPLITS) else 2
    explain = top[0::stride][:n_explain]
    score_top = top[stride // 2 :: stride][:n_score]
    calibrate_top = top[1::stride][:n_score] if stride > 2 else []
    randoms = sorted((s for s in kept if s.band is Band.RANDOM), key=lambda s: s.context_index)
    score_random = randoms[1::3][:n_score] if len(randoms) > 1 else randoms[:1]
    calibrate_random = randoms[0::3][:n_score] if len(randoms) > 1 else []
    used = {s.context_index for s in [*explain, *calibrate_top, *calibrate_random]}
    free = [s for s in kept if s.context_index not in used]
    return SpecimenSplit(
        explain=tuple(explain),
        calibrate_top=tuple(calibrate_top),
        calibrate_random=tuple(calibrate_random),
        score_top=tuple(score_top),
        score_random=tuple(score_random),
        positives=_even_over_bands(
            [s for s in free if s.context_index in firing], n_judged, rng=rng
        ),
        negatives=_draw([s for s in free if s.context_index not in firing], n_judged, rng=rng),
        kept=tuple(kept),
        n_duplicates=n_duplicates,
    )


def distinct_texts(specimens: Iterable[Specimen]) -> tuple[list[Specimen], int]:
    """The specimens strongest first, one a text and one a context, and how many were left out.

    Texts count as equal when they differ only in white space and case.
    """
    ranked = sorted(specimens, key=lambda s: (s.band, -_strength(s), s.context_index))
    texts: set[str] = set()
    indices: set[int] = set()
    kept = []
    for specimen in ranked:
        text = plain_text(specimen.record.tokens)
        if text in texts or specimen.context_index in indices:
            continue
        texts.add(text)
        indices.add(specimen.context_index)
        kept.append(specimen)
    return kept, len(ranked) - len(kept)


def other_explanation(own: int, explanations: Sequence[str], *, rng: random.Random) -> str | None:
    """The explanation of another feature, for the shuffled floor; None when there is no other.

    ``own`` is the place of the feature's own explanation in the list.
    """
    others = [t for i, t in enumerate(explanations) if i != own and t != explanations[own]]
    return rng.choice(others) if others else None


@lru_cache(maxsize=8192)
def plain_text(tokens: tuple[str, ...]) -> str:
    """The joined tokens without what distinct texts may differ in: white space and case."""
    return " ".join("".join(tokens).split()).casefold()


def _strength(specimen: Specimen) -> float:
    return max(0.0, specimen.peak)


def _even_over_bands(
    specimens: Sequence[Specimen], n: int, *, rng: random.Random
) -> tuple[Specimen, ...]:
    by_band = {band: _draw([s for s in specimens if s.band is band], n, rng=rng) for band in Band}
    chosen: list[Specimen] = []
    for place in range(n):
        chosen += [group[place] for group in by_band.values() if place < len(group)]
    return tuple(chosen[:n])


def _draw(specimens: Sequence[Specimen], n: int, *, rng: random.Random) -> tuple[Specimen, ...]:
    ordered = sorted(specimens, key=lambda s: s.context_index)
    return tuple(rng.sample(ordered, min(n, len(ordered))))
