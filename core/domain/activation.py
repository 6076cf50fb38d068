"""Activations: contexts with what a feature did on them, histograms and statistics.

Axis words: ``pos`` token positions of one context, ``k`` entries of a list, ``feature`` features,
``row`` (feature, context) pairs, ``nnz`` non-zero activations.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, Int32, Int64, UInt16, UInt32

from core.domain.explanation import Number
from core.errors import Invalid

HISTOGRAM_BINS = 64


class Band(IntEnum):
    """Why a context is kept for a feature.

    TOP holds the contexts of highest maximum activation. The quantile bands are half-open by
    rank among the sampled firing contexts and leave out those in TOP. RANDOM is the uniform
    sample of the corpus, on which the feature may be silent.
    """

    TOP = 0
    Q75_100 = 1
    Q50_75 = 2
    Q25_50 = 3
    Q0_25 = 4
    RANDOM = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRecord:
    """One context's tokens as text, with one feature's activation on each.

    Attributes:
        tokens: text of each token, length pos.
        activations: raw activations in the SAE's units, finite, length pos.
    """

    tokens: tuple[str, ...]
    activations: tuple[Number, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.activations):
            raise Invalid(
                f"{len(self.tokens)} tokens but {len(self.activations)} activations.",
                hint="Give one activation a token.",
            )
        if not all(map(math.isfinite, self.activations)):
            bad = next(a for a in self.activations if not math.isfinite(a))
            raise Invalid(f"Activation {bad} is not finite.", hint="Give finite numbers only.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of positive activations in 64 equal bins over [0, 2**exponent).

    The exponent is the smallest whole number with max < 2**exponent, so that two histograms
    merge exactly: the finer one's bins are joined in pairs until the exponents agree.
    """

    exponent: int
    counts: UInt32[np.ndarray, " bin"]

    @property
    def bin_width(self) -> float:
        """Width of a bin, in activation units."""
        return float(2.0**self.exponent / HISTOGRAM_BINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureStats:
    """What one feature did over a whole corpus.

    Attributes:
        density: share of scored tokens with activation > 0, in [0, 1].
        n_active: scored tokens with activation > 0.
        n_contexts: contexts with at least one such token.
        max_activation: largest activation; 0 for a dead feature.
        mean_activation: mean over tokens with activation > 0; 0 for a dead feature.
    """

    index: int
    density: float
    n_active: int
    n_contexts: int
    max_activation: float
    mean_activation: float

    @property
    def dead(self) -> bool:
        """Whether the feature never fired on the corpus."""
        return self.n_active == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextActivations:
    """One stored context of one feature: its tokens, and every activation on them.

    Attributes:
        context_index: number of the context in its harvest.
        token_ids: ids as the model saw them, BOS in front, no padding.
        activations: the feature's activation on each token; 0 on unscored ones.
        source: short name of the corpus part, e.g. ``python-docs``.
        document: number of the document in the corpus.
        start: offset of the first token after BOS inside its document, in tokens.
    """

    context_index: int
    band: Band
    token_ids: Int32[np.ndarray, " pos"]
    activations: Float32[np.ndarray, " pos"]
    source: str
    document: int
    start: int

    @property
    def peak(self) -> int:
        """Position of the largest activation; the first of equals."""
        return int(np.argmax(self.activations))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRows:
    """Kept contexts of many features, compressed by row.

    Rows of feature f are ``row_offsets[f]:row_offsets[f + 1]``, ordered by band, then by maximum
    activation descending, then context index. Non-zeros of row r are
    ``nnz_offsets[r]:nnz_offsets[r + 1]``, ordered by position.
    """

    row_offsets: Int64[np.ndarray, " feature_plus_1"]
    context_index: Int32[np.ndarray, " row"]
    band: Int8[np.ndarray, " row"]
    nnz_offsets: Int64[np.ndarray, " row_plus_1"]
    positions: UInt16[np.ndarray, " nnz"]
    values: Float32[np.ndarray, " nnz"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The k nearest features of each feature; index -1 fills places that have none."""

    index: Int32[np.ndarray, "feature k"]
    value: Float32[np.ndarray, "feature k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEffect:
    """Tokens a feature promotes (largest first) and suppresses (smallest first)."""

    top_ids: Int32[np.ndarray, "feature k"]
    top_values: Float32[np.ndarray, "feature k"]
    bottom_ids: Int32[np.ndarray, "feature k"]
    bottom_values: Float32[np.ndarray, "feature k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeHarvest:
    """Everything one pass found for every feature of one SAE.

    Attributes:
        n_scored: scored tokens of the corpus, without this SAE's outliers.
        max_norm: a token with a longer residual is an outlier; None when none was looked for.
        sum_activation: sum of positive activations, float64.
        peak_token: token id at the largest activation; -1 for a dead feature.
        histogram_exponent: see Histogram; 0 for a dead feature.
        coactivation_support: per neighbour, sampled tokens on which both fire.
    """

    n_scored: int
    max_norm: float | None
    n_active: Int64[np.ndarray, " feature"]
    n_contexts: Int64[np.ndarray, " feature"]
    sum_activation: Float[np.ndarray, " feature"]
    max_activation: Float32[np.ndarray, " feature"]
    peak_token: Int32[np.ndarray, " feature"]
    histogram_exponent: Int[np.ndarray, " feature"]
    histogram: UInt32[np.ndarray, "feature bin"]
    coactivation: Neighbours
    coactivation_support: Int32[np.ndarray, "feature k"]
    decoder_cosine: Neighbours
    logit_effect: LogitEffect
    contexts: ContextRows
    random: ContextRows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContexts:
    """The contexts of a harvest that at least one feature keeps.

    Attributes:
        token_ids: ids padded with -1 to the context size.
        sources: names that source_index points into.
    """

    context_index: Int32[np.ndarray, " context"]
    token_ids: Int32[np.ndarray, "context pos"]
    document: Int64[np.ndarray, " context"]
    start: Int32[np.ndarray, " context"]
    source_index: Int32[np.ndarray, " context"]
    sources: tuple[str, ...]
