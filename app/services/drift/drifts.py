"""Drifts by the run that they belong to, for the API; pages use run_drifts and feature_drifts."""

from core.db.repositories import catalog, drift_features, drifts, jobs, samples
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.views_drift import (
    AlignedContexts,
    DriftCard,
    DriftList,
    DriftQuery,
    FeatureDrift,
    SampleSet,
)
from core.errors import NotFound


def of_run(session: Session, job_id: int) -> DriftCard:
    """The newest drift of a run.

    Raises:
        NotFound: no such job, or nothing was measured of it.
    """
    found = drifts.newest_of_run(session, job_id)
    if found is None:
        jobs.get_card(session, job_id)
        raise NotFound(
            f"Nothing was measured of job {job_id} yet.",
            hint="Measure it when the run has finished.",
        )
    return found


def list_rows(session: Session, job_id: int, *, sae_id: str | None, query: DriftQuery) -> DriftList:
    """One page of the features of one SAE of a run's drift; of its first SAE if none is named.

    Raises:
        NotFound: nothing was measured, or not through this SAE.
        Invalid: the place of the page is none.
    """
    card = of_run(session, job_id)
    first = card.saes[0].sae_id if card.saes else ""
    return drift_features.list_rows(session, card.drift_id, sae_id=sae_id or first, query=query)


def contexts(
    session: Session, job_id: int, *, sae_id: str, index: int, include_random: bool
) -> AlignedContexts:
    """A feature's stored contexts in base and aligned model of a run.

    Raises:
        NotFound: nothing was measured, no such feature, or its harvest is gone.
    """
    card = of_run(session, job_id)
    return drift_features.aligned_contexts(
        session, card.drift_id, sae_id=sae_id, index=index, include_random=include_random
    )


def samples_of_run(session: Session, job_id: int) -> SampleSet:
    """What both models of a run wrote.

    Raises:
        NotFound: nothing was measured, or nothing was written.
    """
    return samples.get_samples(session, of_run(session, job_id).drift_id)


def of_feature(session: Session, feature: FeatureId) -> tuple[FeatureDrift, ...]:
    """One feature in every drift that read its SAE, the newest first.

    Raises:
        NotFound: no such SAE.
    """
    catalog.get_sae(session, model_id=feature.model_id, sae_id=feature.sae_id)
    return drift_features.of_feature(session, feature)
