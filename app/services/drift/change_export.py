"""A feature's contexts in a base model and its aligned one, as a file."""

from collections.abc import Iterator

from app.services.drift import feature_drifts
from app.services.features import catalog, features
from app.services.features.export import (
    CONTEXT_COLUMNS,
    ExportFormat,
    Row,
    context_row,
    write_rows,
)
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.views_drift import ComparedContext, FeatureDrift
from core.errors import NotFound

CHANGE_COLUMNS = ("run_job_id", "aligned_id", "aligned_activations", "activation_changes")


def change_export(
    session: Session,
    *,
    feature: FeatureId,
    run: int | None,
    include_random: bool = False,
    form: ExportFormat,
) -> Iterator[bytes]:
    """Every stored context of a feature in base and aligned model, and the change, aligned − base.

    Args:
        session: the transaction.
        feature: whose contexts.
        run: job of the alignment run; None for the newest that was measured.
        include_random: also the contexts drawn from the corpus.
        form: how rows are written.

    Raises:
        NotFound: no such feature, or the run was not measured on its contexts.
    """
    drifts = feature_drifts.feature_drifts(session, feature, run=run)
    if drifts.chosen is None or drifts.harvest_id is None:
        which = "No run was" if run is None else f"Run {run} was not"
        raise NotFound(
            f"{which} measured on contexts of {feature}.",
            hint="Measure what moved after the run, with a harvest of this SAE.",
        )
    page = features.feature_page(
        session, feature=feature, harvest_id=drifts.harvest_id, include_random=include_random
    )
    words = catalog.page_vocabulary(session, page)
    compared = feature_drifts.compared_contexts(
        session, feature, drifts.chosen, include_random=include_random
    )
    rows = (
        {**context_row(feature, page, pair.base, words), **_change_row(drifts.chosen, pair)}
        for pair in compared.contexts
    )
    return write_rows(rows, (*CONTEXT_COLUMNS, *CHANGE_COLUMNS), form)


def _change_row(drift: FeatureDrift, pair: ComparedContext) -> Row:
    base, aligned = pair.base.activations, pair.aligned.activations
    return {
        "run_job_id": drift.run_job_id,
        "aligned_id": drift.aligned_id,
        "aligned_activations": [features.shortest(value) for value in aligned.tolist()],
        "activation_changes": [features.shortest(value) for value in (aligned - base).tolist()],
    }
