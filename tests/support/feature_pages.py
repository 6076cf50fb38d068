"""Feature pages made by hand, for what needs no database."""

from datetime import UTC, datetime

import numpy as np

from core.domain.activation import Band, ContextActivations, FeatureStats, Histogram
from core.domain.harvest import HarvestInfo
from core.domain.views import (
    FeaturePage,
    Neighbour,
    Ranks,
    SaeCard,
    TokenWeight,
    Vocabulary,
)

WORDS = Vocabulary(
    model_id="m",
    tokens=(b"<bos>", b"a", b" b", b"\xc3", b"\xa9", b"\0", b"\n"),
    special_ids=frozenset({0}),
)
HARVEST = HarvestInfo(
    harvest_id=3,
    job_id=7,
    model_id="m",
    model_revision="rev",
    corpus_name="news",
    corpus_hash="c" * 64,
    context_size=8,
    n_contexts=40,
    n_tokens=300,
    n_scored=260,
    seed=0,
    spec_hash="s" * 64,
    finished_at=datetime(2026, 1, 2, tzinfo=UTC),
)
SAE = SaeCard(
    sae_id="12-res-1k__l0-9",
    model_id="m",
    hook_name="blocks.12.hook_resid_post",
    layer=12,
    d_in=4,
    d_sae=8,
    architecture="jumprelu",
    source="somewhere",
    revision="w" * 64,
    record={},
    harvest=HARVEST,
    n_features=8,
    n_dead=1,
    n_scored=257,
    max_norm=880.0,
    mean_l0=2.5,
)


def context(index: int, band: Band, ids: list[int], values: list[float]) -> ContextActivations:
    """A context of a document of its own."""
    return ContextActivations(
        context_index=index,
        band=band,
        token_ids=np.array(ids, dtype=np.int32),
        activations=np.array(values, dtype=np.float32),
        source="news",
        document=index,
        start=0,
    )


def stats(index: int, *, dead: bool = False) -> FeatureStats:
    """Statistics of a feature that fired on five tokens, or never."""
    return FeatureStats(
        index=index,
        density=0.0 if dead else 5 / 260,
        n_active=0 if dead else 5,
        n_contexts=0 if dead else 3,
        max_activation=0.0 if dead else 4.0,
        mean_activation=0.0 if dead else 2.0,
    )


def living_page(index: int = 5) -> FeaturePage:
    """A page with a top context and two of one quantile band."""
    return page(
        index,
        contexts=(
            context(1, Band.TOP, [0, 1, 2, 6], [0, 0, 4, 0]),
            context(2, Band.Q75_100, [0, 3, 4], [0, 1, 3]),
            context(9, Band.Q75_100, [0, 1, 5], [0, 2, 0]),
        ),
    )


def dead_page(index: int = 6) -> FeaturePage:
    """A page of a feature that never fired."""
    return page(index, contexts=(), dead=True)


def page(
    index: int, *, contexts: tuple[ContextActivations, ...], dead: bool = False
) -> FeaturePage:
    """A page with the given contexts."""
    counts = np.zeros(64, dtype=np.uint32)
    counts[:3] = 0 if dead else [3, 0, 2]
    near = Neighbour(index=2, value=0.5, support=11, stats=stats(2), peak_token=2)
    return FeaturePage(
        model_id="m",
        sae=SAE,
        harvest=HARVEST,
        stats=stats(index, dead=dead),
        ranks=Ranks(density=0.5, max_activation=0.5, mean_activation=0.5),
        histogram=Histogram(exponent=0 if dead else 3, counts=counts),
        promoted=(TokenWeight(token_id=2, value=0.25),),
        suppressed=(TokenWeight(token_id=1, value=-0.5),),
        coactivation=() if dead else (near,),
        decoder_cosine=(near,),
        contexts=contexts,
        band_counts={band: sum(c.band is band for c in contexts) for band in Band},
        next_index=index + 1,
        previous_index=index - 1,
        other_harvests=(),
    )
