"""What a run moved, as a file: features of one SAE of a drift, with every number of the page."""

from collections.abc import Iterator
from dataclasses import replace

from app.services.drift import run_drifts
from app.services.features.export import ExportFormat, Row, write_rows
from app.services.features.paged import ROWS_A_PAGE, every_feature
from core.db.session import SessionScope
from core.domain.ids import FeatureId
from core.domain.views_drift import DriftCard, DriftList, DriftQuery, DriftRow, PlaceDrift

_PLACES = ("chosen", "rejected", "corpus")
_NUMBERS = (
    *("base_mean", "aligned_mean", "delta"),
    *("base_density", "aligned_density", "density_delta", "cosine"),
)
MOVED_COLUMNS = (
    *("feature", "run_job_id", "aligned_id", "treatment"),
    *(f"{place}_{number}" for place in _PLACES for number in _NUMBERS),
    *("label", "tags", "explanation", "peak_token_id"),
)


def moved_export(
    scope: SessionScope, drift: DriftCard, *, sae_id: str, query: DriftQuery, form: ExportFormat
) -> Iterator[bytes]:
    """Every feature that the filters leave, in their order; the query's limit is ignored.

    Raises (before the first piece):
        NotFound: the SAE is not in the drift.
        Invalid: the place of the page is none.
    """

    def read(after: str | None) -> DriftList:
        page = replace(query, after=after, limit=ROWS_A_PAGE)
        with scope() as session:
            return run_drifts.moved_rows(session, drift, sae_id=sae_id, query=page)

    found = every_feature(read(query.after), read, sae_id=sae_id)
    return write_rows((_row(drift, *pair) for pair in found), MOVED_COLUMNS, form)


def _row(drift: DriftCard, feature: FeatureId, row: DriftRow) -> Row:
    return {
        "feature": str(feature),
        "run_job_id": drift.run_job_id,
        "aligned_id": drift.aligned_id,
        "treatment": row.treatment.value,
        **_numbers("chosen", row.chosen),
        **_numbers("rejected", row.rejected),
        **_numbers("corpus", row.corpus),
        "label": row.label,
        "tags": list(row.tags),
        "explanation": row.explanation,
        "peak_token_id": row.peak_token,
    }


def _numbers(place: str, found: PlaceDrift | None) -> dict[str, float | None]:
    """A place's numbers by column; all None where it was not read."""
    return {
        f"{place}_{number}": None if found is None else getattr(found, number)
        for number in _NUMBERS
    }
