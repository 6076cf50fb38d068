"""Read models of what moved: drifts of an aligned model from its base, and samples of both.

Means are raw activations in the SAE's units, silent tokens counted as 0. On chosen and rejected
answers a mean is taken over each answer's response positions first, then over answers, as the
feature divergence pools (losses.md §1.1); densities there are shares of all response positions.
On the index corpus both are over scored tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.domain.activation import Band, ContextActivations
from core.domain.preference import Turn


class Place(StrEnum):
    """On what base and aligned model are compared."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    CORPUS = "corpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDrift:
    """One feature of base and aligned model at the same positions of one place.

    Attributes:
        cosine: of the mean residual change there, h_aligned − h_base, with the feature's row of
            W_dec; None where the mean change is 0.
    """

    base_mean: float
    aligned_mean: float
    base_density: float
    aligned_density: float
    cosine: float | None

    @property
    def delta(self) -> float:
        """Change of the mean."""
        return self.aligned_mean - self.base_mean

    @property
    def density_delta(self) -> float:
        """Change of the density."""
        return self.aligned_density - self.base_density


class Treatment(StrEnum):
    """How a run's constraint treated a feature."""

    HELD = "held"  # constrained whatever its rank
    FREE = "free"  # may move at no cost
    OTHER = "other"  # constrained while among the top k, by the weight of the others
    NONE = "none"  # its SAE is not in the constraint set, or the run had none


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRow:
    """What became of one feature.

    Attributes:
        corpus: None where the SAE has no harvest.
        explanation: text of its newest current explanation; None without one.
        label: the name that people gave it; None without one.
        tags: the tags that it bears.
        peak_token: token at its largest activation in the harvest; None without one.
    """

    index: int
    chosen: PlaceDrift
    rejected: PlaceDrift
    corpus: PlaceDrift | None
    treatment: Treatment
    peak_token: int | None
    explanation: str | None
    label: str | None = None
    tags: tuple[str, ...] = ()


class DriftSort(StrEnum):
    """What a drift's features are sorted by; sizes of changes, whatever their sign, first."""

    LARGEST = "largest"  # the largest of the three changes of the mean
    CHOSEN = "chosen"  # change of the mean on chosen answers
    REJECTED = "rejected"
    CORPUS = "corpus"
    DENSITY_CHOSEN = "density_chosen"
    DENSITY_REJECTED = "density_rejected"
    DENSITY_CORPUS = "density_corpus"
    COSINE_CHOSEN = "cosine_chosen"  # signed, as the next two
    COSINE_REJECTED = "cosine_rejected"
    COSINE_CORPUS = "cosine_corpus"
    INDEX = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftQuery:
    """Which features of one SAE of a drift, in which order, from where.

    Features that fire nowhere, in neither model, are never listed.

    Attributes:
        words: only features whose label, or a present explanation, holds all these words.
        explained: True only features with an explanation, False only without, None both.
        tags: only features that bear every one of these.
        labelled: True only features whose label has a name, False only without, None both.
        treatment: only features that the run treated so.
        min_density: least density, of base or aligned model, in any place.
        after: place of the page, next_after or previous_after of a DriftList.
    """

    sort: DriftSort = DriftSort.LARGEST
    descending: bool = True
    words: str | None = None
    explained: bool | None = None
    tags: tuple[str, ...] = ()
    labelled: bool | None = None
    treatment: Treatment | None = None
    min_density: float | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftList:
    """One page of a drift's features; a neighbour that is not there is None.

    Attributes:
        features_of: id of the model under which they are explained, labelled and have their pages.
    """

    features_of: str
    rows: tuple[DriftRow, ...]
    previous_after: str | None
    next_after: str | None
    n_matching: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFacts:
    """Base and aligned model at the same positions of one place, through one SAE.

    Attributes:
        n_items: answers or contexts.
        n_tokens: positions.
        base_norm: mean norm of the base's residual.
        change_norm: mean norm of a position's change h_aligned − h_base.
        mean_change_norm: norm of the mean change, which the cosines are of.
        base_explained_variance, aligned_explained_variance: 1 − Σ‖h − ĥ‖² / Σ‖h − h̄‖² of each
            model through the same SAE; None where all residuals are the same.
        base_l0, aligned_l0: mean number of active features a position.
    """

    n_items: int
    n_tokens: int
    base_norm: float
    change_norm: float
    mean_change_norm: float
    base_explained_variance: float | None
    aligned_explained_variance: float | None
    base_l0: float
    aligned_l0: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSae:
    """One SAE of a drift.

    Attributes:
        harvest_id: harvest whose contexts were read again; None where there is none (any more).
        corpus_name: of that harvest; empty without one.
        n_moved: features that fire at a response position or a corpus token in either model.
        places: facts of each place that was read.
    """

    sae_id: str
    hook_name: str
    layer: int
    d_sae: int
    revision: str
    harvest_id: int | None
    corpus_name: str
    n_moved: int
    places: Mapping[Place, PlaceFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How samples were drawn; temperature 0 takes the likeliest token every time."""

    n_prompts: int
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCard:
    """One comparison of an aligned model with its base.

    Attributes:
        job_id: the job that measured it; None when it was deleted.
        run_job_id: the alignment run; None when it was deleted, or for a folder.
        preference_name, preference_hash: the pairs whose answers were read.
        n_pairs: of them, that were read.
        dtype: number format of both models.
        aligned_dir: transformers folder of the aligned model.
        method: loss of the run; empty where only a folder is known.
        n_samples: pairs of generations.
    """

    drift_id: int
    job_id: int | None
    run_job_id: int | None
    model_id: str
    aligned_id: str
    base_revision: str
    aligned_revision: str
    aligned_dir: str
    method: str
    preference_name: str
    preference_hash: str
    n_pairs: int
    dtype: str
    sampling: SamplingSettings | None
    n_samples: int
    saes: tuple[DriftSae, ...]
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedContext:
    """One stored context with a feature of base and aligned model on the same tokens.

    ``base.activations`` are those of the harvest, ``aligned`` those of the aligned model; the
    change is aligned − base, position by position.
    """

    base: ContextActivations
    aligned: ContextActivations

    @property
    def band(self) -> Band:
        """Why the context was kept."""
        return self.base.band


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedContexts:
    """A feature on all its stored contexts, in the order of its page, in both models.

    Attributes:
        row: what became of the feature.
        contexts: kept contexts in band order; RANDOM ones last, where they were asked for.
    """

    drift: DriftCard
    row: DriftRow
    contexts: tuple[ComparedContext, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """One feature in one drift: the way from a feature to the runs that moved it.

    Attributes:
        model_id: what the run started from.
    """

    drift_id: int
    run_job_id: int | None
    model_id: str
    aligned_id: str
    method: str
    finished_at: datetime
    row: DriftRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one model wrote.

    Attributes:
        text: as decoded, without special tokens.
        token_ids: the tokens that were drawn, the end of turn included.
        ended: whether it ended its turn by itself, within the tokens allowed.
    """

    text: str
    token_ids: tuple[int, ...]
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePair:
    """Base and aligned model on the same prompt.

    Attributes:
        position: number of the sample, from 0.
        row: row of the prompt in its source.
        chosen, rejected: the data's own answers.
        n_prompt_tokens: tokens that both models read.
    """

    position: int
    row: int
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    n_prompt_tokens: int
    base: Sample
    aligned: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """All samples of a drift, side by side."""

    drift: DriftCard
    settings: SamplingSettings
    pairs: tuple[SamplePair, ...]
