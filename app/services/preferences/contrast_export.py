"""A contrast as a file: features of one of its SAEs, with every number of the page."""

from collections.abc import Iterator
from dataclasses import replace

from app.services.features.export import ExportFormat, Row, write_rows
from app.services.features.paged import ROWS_A_PAGE, every_feature
from core.db.repositories import contrasts
from core.db.session import SessionScope
from core.domain.ids import FeatureId
from core.domain.views_align import ContrastCard, ContrastList, ContrastQuery, ContrastRow

_NUMBERS = (
    *("mean_chosen", "mean_rejected", "difference", "effect_size"),
    *("share_chosen", "share_rejected", "density", "corpus_density"),
)
CONTRAST_COLUMNS = (
    *("feature", "contrast_id", "preference_hash"),
    *_NUMBERS,
    *("label", "tags", "explanation", "peak_token_id"),
)


def contrast_export(
    scope: SessionScope,
    contrast: ContrastCard,
    *,
    sae_id: str,
    query: ContrastQuery,
    form: ExportFormat,
) -> Iterator[bytes]:
    """Every feature that the filters leave, in their order; the query's limit is ignored.

    Raises (before the first piece):
        NotFound: the SAE is not in the contrast.
        Invalid: the place of the page is none.
    """

    def read(after: str | None) -> ContrastList:
        page = replace(query, after=after, limit=ROWS_A_PAGE)
        with scope() as session:
            return contrasts.list_rows(session, contrast.contrast_id, sae_id=sae_id, query=page)

    found = every_feature(read(query.after), read, sae_id=sae_id)
    return write_rows((_row(contrast, *pair) for pair in found), CONTRAST_COLUMNS, form)


def _row(contrast: ContrastCard, feature: FeatureId, row: ContrastRow) -> Row:
    return {
        "feature": str(feature),
        "contrast_id": contrast.contrast_id,
        "preference_hash": contrast.preference_hash,
        **{number: getattr(row, number) for number in _NUMBERS},
        "label": row.label,
        "tags": list(row.tags),
        "explanation": row.explanation,
        "peak_token_id": row.peak_token,
    }
