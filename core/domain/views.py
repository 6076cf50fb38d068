"""Read models of pages and of the REST API: complete, frozen, nothing lazy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from core.domain.activation import Band, ContextActivations, FeatureStats, Histogram
from core.domain.harvest import HarvestInfo


class FeatureSort(StrEnum):
    """What a feature list is sorted by."""

    INDEX = "index"
    DENSITY = "density"
    MAX_ACTIVATION = "max_activation"
    MEAN_ACTIVATION = "mean_activation"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureQuery:
    """Which features of one SAE's harvest, in which order, from where.

    Attributes:
        dead: True only dead, False only living, None both.
        after: place of the page, next_after or previous_after of a FeatureList.
        token: only features whose peak token's text contains this, case-insensitively.
        explained: only features with a present explanation that holds all these words or, as a
            whole, this text.
        words: only features whose label, or a present explanation, holds all these words or, as a
            whole, this text.
        tags: only features that bear every one of these.
        labelled: True only features whose label has a name, False only without, None both.
    """

    sort: FeatureSort = FeatureSort.INDEX
    descending: bool = False
    min_density: float | None = None
    max_density: float | None = None
    min_activation: float | None = None
    max_activation: float | None = None
    dead: bool | None = None
    token: str | None = None
    explained: str | None = None
    words: str | None = None
    tags: tuple[str, ...] = ()
    labelled: bool | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCard:
    """One row of a feature list.

    Attributes:
        preview: the top context; None for a dead feature.
        promoted: ids of the tokens it promotes most.
    """

    stats: FeatureStats
    peak_token: int
    preview: ContextActivations | None
    promoted: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureList:
    """One page of a feature list; a neighbour that is not there is None."""

    cards: tuple[FeatureCard, ...]
    previous_after: str | None
    next_after: str | None
    n_matching: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeight:
    """A vocabulary token with a number, e.g. its logit effect."""

    token_id: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another feature with its nearness; support is the tokens on which both fire, else None."""

    index: int
    value: float
    support: int | None
    stats: FeatureStats
    peak_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Share of the SAE's living features that this one exceeds, in [0, 1]."""

    density: float
    max_activation: float
    mean_activation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeCard:
    """An SAE in one harvest: what it is and how it did.

    Attributes:
        record: measured quality (l0, explained_variance, ce_recovered, dead_share …), if known.
        n_scored: tokens that count for this SAE: the harvest's without outliers.
        max_norm: a token with a longer residual is an outlier; None when none was looked for.
        mean_l0: mean number of active features a scored token, in this harvest.
    """

    sae_id: str
    model_id: str
    hook_name: str
    layer: int
    d_in: int
    d_sae: int
    architecture: str
    source: str
    revision: str
    record: dict[str, float]
    harvest: HarvestInfo | None
    n_features: int
    n_dead: int
    n_scored: int
    max_norm: float | None
    mean_l0: float

    @property
    def n_outliers(self) -> int:
        """Tokens of the harvest that do not count for this SAE."""
        return self.harvest.n_scored - self.n_scored if self.harvest else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidCounts:
    """How many features of an SAE somebody said something of.

    Attributes:
        n_explained: with a current explanation.
        n_named: with a name that people gave.
    """

    n_explained: int = 0
    n_named: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model with its SAEs and harvests."""

    model_id: str
    source: str
    revision: str
    architecture: str
    n_layers: int
    d_model: int
    vocab_size: int
    bos_rule: str
    saes: tuple[SaeCard, ...]
    harvests: tuple[HarvestInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePage:
    """Everything a feature's page shows.

    Attributes:
        contexts: kept contexts in band order, without RANDOM.
        band_counts: contexts kept in each band.
        next_index, previous_index: neighbours by index, None at the ends.
    """

    model_id: str
    sae: SaeCard
    harvest: HarvestInfo
    stats: FeatureStats
    ranks: Ranks
    histogram: Histogram
    promoted: tuple[TokenWeight, ...]
    suppressed: tuple[TokenWeight, ...]
    coactivation: tuple[Neighbour, ...]
    decoder_cosine: tuple[Neighbour, ...]
    contexts: tuple[ContextActivations, ...]
    band_counts: dict[Band, int]
    next_index: int | None
    previous_index: int | None
    other_harvests: tuple[HarvestInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Exact bytes of every token of a model's tokenizer.

    Attributes:
        tokens: bytes of token id i at place i.
        special_ids: ids of BOS, EOS, padding and other special tokens.
    """

    model_id: str
    tokens: tuple[bytes, ...]
    special_ids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        text: the line in English.
        line: its kind, by which pages translate it; None for free text.
        values: what stands in a line of that kind.
    """

    seq: int
    at: datetime
    level: str
    text: str
    line: str | None = None
    values: Mapping[str, JsonValue] = field(default_factory=dict)
