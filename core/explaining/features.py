"""The features that a run's settings choose."""

import random

import numpy as np

from core.db.repositories import features
from core.db.session import Session
from core.domain.explain_job import (
    ExplainSpec,
    ListedFeatures,
    QueriedFeatures,
    SampledFeatures,
    WholeSae,
)
from core.domain.ids import FeatureId
from core.domain.views import FeatureQuery, FeatureSort

_PAGE = 500


def choose_features(session: Session, spec: ExplainSpec) -> tuple[FeatureId, ...]:
    """The features of a run, in the order of its settings.

    Raises:
        NotFound: no such model, SAE or harvest.
    """
    match spec.features:
        case ListedFeatures(indices=indices):
            chosen = list(indices)
        case QueriedFeatures() as wanted:
            chosen = _queried(session, spec, wanted)
        case SampledFeatures(n=n):
            living = _living(session, spec)
            rng = random.Random(f"{spec.seed}/features")  # noqa: S311 - nothing secret
            chosen = sorted(rng.sample(living, min(n, len(living))))
        case WholeSae():
            chosen = _living(session, spec)
    return tuple(
        FeatureId(model_id=spec.model_id, sae_id=spec.sae_id, index=index) for index in chosen
    )


def _living(session: Session, spec: ExplainSpec) -> list[int]:
    columns = features.feature_stats(
        session, model_id=spec.model_id, sae_id=spec.sae_id, harvest_id=spec.harvest_id
    )
    return [int(index) for index in np.flatnonzero(columns.density)]


def _queried(session: Session, spec: ExplainSpec, wanted: QueriedFeatures) -> list[int]:
    chosen: list[int] = []
    after: str | None = None
    while len(chosen) < wanted.limit:
        page = features.list_features(
            session,
            model_id=spec.model_id,
            sae_id=spec.sae_id,
            harvest_id=spec.harvest_id,
            query=FeatureQuery(
                sort=FeatureSort(wanted.sort),
                descending=wanted.descending,
                min_density=wanted.min_density,
                max_density=wanted.max_density,
                min_activation=wanted.min_activation,
                max_activation=wanted.max_activation,
                token=wanted.token,
                dead=False,
                after=after,
                limit=min(_PAGE, wanted.limit - len(chosen)),
            ),
        )
        chosen += [card.stats.index for card in page.cards]
        after = page.next_after
        if after is None:
            break
    return chosen
