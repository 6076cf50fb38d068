"""What alignment runs did to one feature: its drifts, and its contexts in both models."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.db.repositories import drift_features, drifts
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.views_drift import AlignedContexts, FeatureDrift


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrifts:
    """The runs that a feature was measured after.

    Attributes:
        known: drifts whose run is still there, the newest first.
        chosen: the one that is looked at; None without any.
        harvest_id: harvest whose contexts were read again; None where there are none.
    """

    known: tuple[FeatureDrift, ...]
    chosen: FeatureDrift | None
    harvest_id: int | None


def feature_drifts(session: Session, feature: FeatureId, *, run: int | None) -> FeatureDrifts:
    """A feature's drifts; the newest of a run is looked at, or of all that start from its model."""
    found = [d for d in drift_features.of_feature(session, feature) if d.run_job_id is not None]
    newest = {drift.run_job_id: drift for drift in reversed(found)}
    known = tuple(drift for drift in found if newest[drift.run_job_id] is drift)
    chosen = _named(known, run) if run is not None else _newest(known, feature)
    if chosen is None:
        return FeatureDrifts(known=known, chosen=None, harvest_id=None)
    saes = drifts.get_drift(session, chosen.drift_id).saes
    harvest = next(s.harvest_id for s in saes if s.sae_id == feature.sae_id)
    return FeatureDrifts(known=known, chosen=chosen, harvest_id=harvest)


def _named(known: Sequence[FeatureDrift], run: int) -> FeatureDrift | None:
    return next((drift for drift in known if drift.run_job_id == run), None)


def _newest(known: Sequence[FeatureDrift], feature: FeatureId) -> FeatureDrift | None:
    """The newest of the feature's own model, whose contexts were read again; else of any."""
    own = (drift for drift in known if drift.model_id == feature.model_id)
    return next(own, known[0] if known else None)


def compared_contexts(
    session: Session, feature: FeatureId, drift: FeatureDrift, *, include_random: bool
) -> AlignedContexts:
    """A feature's stored contexts in base and aligned model, in the order of its page.

    Raises:
        NotFound: the harvest whose contexts were read is gone.
    """
    return drift_features.aligned_contexts(
        session,
        drift.drift_id,
        sae_id=feature.sae_id,
        index=feature.index,
        include_random=include_random,
    )
