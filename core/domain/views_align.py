"""Read models of preference sets and of contrasts on them; core.domain.views_drift has the rest.

Means are raw activations in the SAE's units, silent tokens counted as 0, taken over each answer's
response positions first, then over answers, as the feature divergence pools (losses.md §1.1);
densities are shares of all response positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.domain.preference import PreferencePair, RejectedRow, RejectReason, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSetCard:
    """One preference set: stored, or the one that ships with Sparsight.

    Attributes:
        set_id: None for the shipped set, which has no row.
        source: name of the file it was read from.
        formats: rows of each format that was recognised, by its name, the commonest first.
        content_hash: sha256 over its pairs and their splits; names the exact data.
        n_rows: rows read; pairs plus rejected rows.
        held_out_share: share of prompts held out where rows named no split.
        rejected_by_reason: only reasons that occur, the commonest first.
        n_bytes: of the canonical file.
        created_at: None for the shipped set.
    """

    set_id: int | None
    name: str
    source: str
    formats: Mapping[str, int]
    content_hash: str
    n_rows: int
    n_train: int
    n_held_out: int
    held_out_share: float
    rejected_by_reason: Mapping[RejectReason, int]
    n_bytes: int
    created_by: str | None
    created_at: datetime | None

    @property
    def n_pairs(self) -> int:
        """Usable pairs."""
        return self.n_train + self.n_held_out

    @property
    def n_rejected(self) -> int:
        """Rows that are not used."""
        return sum(self.rejected_by_reason.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedPair:
    """A pair with its place in its set, from 0, which is what addresses name."""

    position: int
    pair: PreferencePair


@dataclass(frozen=True, slots=True, kw_only=True)
class PairList:
    """One page of a set's pairs, in source order.

    Attributes:
        n_matching: pairs of the split that was asked for.
        next_offset: where the next page begins among them; None on the last one.
    """

    pairs: tuple[NumberedPair, ...]
    n_matching: int
    next_offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedList:
    """One page of a set's rejected rows, in source order."""

    rows: tuple[RejectedRow, ...]
    n_matching: int
    next_offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSetPage:
    """A set with one page of its pairs and one of its rejected rows.

    Attributes:
        split: the split whose pairs are shown; None for both.
        reason: the reason whose rows are shown; None for all.
        contrasts: contrasts of this very data, the newest first.
    """

    card: PreferenceSetCard
    split: Split | None
    pairs: PairList
    reason: RejectReason | None
    rejected: RejectedList
    contrasts: tuple["ContrastCard", ...]


class ContrastSort(StrEnum):
    """What a contrast's features are sorted by."""

    EFFECT_SIZE = "effect_size"
    ABS_EFFECT = "abs_effect"  # by size, whatever its sign
    DIFFERENCE = "difference"
    ABS_DIFFERENCE = "abs_difference"
    MEAN_CHOSEN = "mean_chosen"
    MEAN_REJECTED = "mean_rejected"
    DENSITY = "density"
    INDEX = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastQuery:
    """Which features of one SAE of a contrast, in which order, from where.

    Features that fire on no answer are never listed.

    Attributes:
        min_density, max_density: bounds of the density on answers.
        min_share: only features active on at least this share of pairs, on either side.
        words: only features whose label, or a present explanation, holds all these words.
        explained: True only features with an explanation, False only without, None both.
        tags: only features that bear every one of these.
        labelled: True only features whose label has a name, False only without, None both.
        after: place of the page, next_after or previous_after of a ContrastList.
    """

    sort: ContrastSort = ContrastSort.ABS_EFFECT
    descending: bool = True
    min_density: float | None = None
    max_density: float | None = None
    min_share: float | None = None
    words: str | None = None
    explained: bool | None = None
    tags: tuple[str, ...] = ()
    labelled: bool | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastRow:
    """One feature on the answers of a preference set.

    Attributes:
        index: of the feature in its SAE.
        mean_chosen, mean_rejected: mean over pairs of the answer's mean activation.
        difference: mean_chosen − mean_rejected.
        effect_size: difference over the standard deviation, over pairs, of the pair's own
            difference (n − 1 in the denominator); None with one pair, or where all pairs differ
            by the same.
        share_chosen, share_rejected: share of pairs in which the feature is active on a response
            position of that answer.
        density: share of all response positions, of both answers, on which it is active.
        corpus_density: share of scored tokens of the SAE's newest harvest; None without one.
        peak_token: token at its largest activation in that harvest; None without one.
        explanation: text of its newest current explanation; None without one.
        label: the name that people gave it; None without one.
        tags: the tags that it bears.
    """

    index: int
    mean_chosen: float
    mean_rejected: float
    difference: float
    effect_size: float | None
    share_chosen: float
    share_rejected: float
    density: float
    corpus_density: float | None
    peak_token: int | None
    explanation: str | None
    label: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastSae:
    """One SAE of a contrast.

    Attributes:
        n_active: features that fire on at least one response position.
    """

    sae_id: str
    hook_name: str
    layer: int
    d_sae: int
    revision: str
    n_active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastCard:
    """One contrast: a model's features on the chosen and the rejected answers of a set.

    Attributes:
        job_id: the job that made it; None when it was deleted.
        preference_name: what the data were called.
        preference_hash: content hash of the set; the same as PreferenceSetCard.content_hash.
        n_pairs: pairs that were read.
        n_tokens_chosen, n_tokens_rejected: response positions.
    """

    contrast_id: int
    job_id: int | None
    model_id: str
    model_revision: str
    preference_name: str
    preference_hash: str
    n_pairs: int
    n_tokens_chosen: int
    n_tokens_rejected: int
    saes: tuple[ContrastSae, ...]
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastList:
    """One page of a contrast's features; a neighbour that is not there is None.

    Attributes:
        features_of: id of the model under which they are explained, labelled and have their pages.
    """

    features_of: str
    rows: tuple[ContrastRow, ...]
    previous_after: str | None
    next_after: str | None
    n_matching: int
