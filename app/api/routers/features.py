"""Features: lists, pages, contexts, raw records, neighbours, numbers for plots."""

import random
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.api.answers import failures
from app.api.params import (
    FeatureDep,
    FeatureQueryDep,
    HarvestQuery,
    LimitQuery,
    ModelIdPath,
    SaeIdPath,
)
from app.api.schemas.features import (
    Context,
    ContextsBody,
    FeatureBody,
    FeatureListBody,
    FeatureName,
    NeighboursBody,
    RecordsBody,
    ScatterBody,
    band_counts,
)
from app.deps import SessionDep
from app.services.features import catalog, features
from app.services.labels import labels
from core.domain.activation import Band

router = APIRouter(prefix="/models/{model_id}/saes/{sae_id}/features", tags=["features"])

BandName = Literal["top", "q75_100", "q50_75", "q25_50", "q0_25", "random"]
BandQuery = Annotated[
    BandName | None, Query(description="Only contexts of this band.", examples=["top"])
]
RandomQuery = Annotated[
    bool,
    Query(description="Also the contexts drawn uniformly from the corpus.", examples=[False]),
]


@router.get("", responses=failures(404, 422))
def list_features(
    session: SessionDep,
    model_id: ModelIdPath,
    sae_id: SaeIdPath,
    query: FeatureQueryDep,
    harvest: HarvestQuery = None,
) -> FeatureListBody:
    """Features of an SAE, filtered and sorted, page by page with `after`."""
    sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest)
    found = features.list_features(
        session, model_id=model_id, sae_id=sae_id, harvest_id=harvest, query=query
    )
    revision = sae.harvest.model_revision if sae.harvest else None
    words = catalog.vocabulary(session, model_id=model_id, revision=revision)
    indices = [card.stats.index for card in found.cards]
    said = labels.of_features(session, model_id=model_id, sae_id=sae_id, indices=indices)
    return FeatureListBody.of(found, words, said)


@router.get("/random", responses=failures(404, 422))
def random_feature(
    session: SessionDep,
    model_id: ModelIdPath,
    sae_id: SaeIdPath,
    harvest: HarvestQuery = None,
    seed: Annotated[
        int | None, Query(ge=0, description="For the same one again.", examples=[1])
    ] = None,
) -> FeatureName:
    """A living feature, each as likely as another."""
    found = features.random_feature(
        session,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=harvest,
        rng=random.Random(seed),  # noqa: S311 - nothing secret
    )
    return FeatureName(feature=str(found), index=found.index)


@router.get("/scatter", responses=failures(404, 422))
def scatter(
    session: SessionDep, model_id: ModelIdPath, sae_id: SaeIdPath, harvest: HarvestQuery = None
) -> ScatterBody:
    """Density, maximum and mean activation of every feature, for plots."""
    found = features.scatter(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest)
    return ScatterBody.of(found)


@router.get("/{index}", responses=failures(404, 422))
def get_feature(
    session: SessionDep,
    feature: FeatureDep,
    harvest: HarvestQuery = None,
    include_random: RandomQuery = False,
) -> FeatureBody:
    """Everything known of one feature: statistics, histogram, logits, neighbours, contexts."""
    page = features.feature_page(
        session, feature=feature, harvest_id=harvest, include_random=include_random
    )
    label = labels.get_label(session, feature)
    return FeatureBody.of(page, catalog.page_vocabulary(session, page), label)


@router.get("/{index}/contexts", responses=failures(404, 422))
def list_contexts(
    session: SessionDep,
    feature: FeatureDep,
    harvest: HarvestQuery = None,
    band: BandQuery = None,
    limit: LimitQuery = 500,
) -> ContextsBody:
    """A feature's contexts with every activation, of all bands but random, or of one band."""
    wanted = None if band is None else Band[band.upper()]
    page = features.feature_page(
        session, feature=feature, harvest_id=harvest, include_random=wanted is Band.RANDOM
    )
    words = catalog.page_vocabulary(session, page)
    kept = [context for context in page.contexts if wanted is None or context.band is wanted]
    return ContextsBody(
        harvest_id=page.harvest.harvest_id,
        contexts=[Context.of(context, words) for context in kept[:limit]],
        band_counts=band_counts(page),
    )


@router.get("/{index}/records", responses=failures(404, 422))
def list_records(
    session: SessionDep,
    feature: FeatureDep,
    harvest: HarvestQuery = None,
    band: BandQuery = None,
    only_nonzero: Annotated[
        bool, Query(description="Leave rows of number 0 out of the texts.", examples=[False])
    ] = False,
    limit: LimitQuery = 500,
) -> RecordsBody:
    """A feature's contexts as an explainer sees them: token, tab, number from 0 to 10."""
    raw = features.raw_records(
        session,
        feature=feature,
        harvest_id=harvest,
        band=None if band is None else Band[band.upper()],
        only_nonzero=only_nonzero,
        limit=limit,
    )
    return RecordsBody.of(raw)


@router.get("/{index}/neighbours", responses=failures(404, 422))
def list_neighbours(
    session: SessionDep, feature: FeatureDep, harvest: HarvestQuery = None
) -> NeighboursBody:
    """Features that fire on the same tokens, and features of similar decoder directions."""
    page = features.feature_page(session, feature=feature, harvest_id=harvest)
    return NeighboursBody.from_page(page, catalog.page_vocabulary(session, page))
