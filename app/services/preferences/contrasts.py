"""Contrasts by their number, for pages and API alike; contrast_launch starts them from a form."""

from core.db.repositories import contrasts
from core.db.session import Session
from core.domain.align_jobs import ContrastSpec
from core.domain.views_align import ContrastCard, ContrastList, ContrastQuery
from core.jobs import control


def submit(session: Session, spec: ContrastSpec, *, created_by: str | None = None) -> int:
    """Queues a contrast when the session's transaction commits; the id of its job."""
    return control.submit(session, spec, created_by=created_by)


def list_contrasts(
    session: Session, *, preference_hash: str | None = None, model_id: str | None = None
) -> tuple[ContrastCard, ...]:
    """Contrasts, the newest first; those of one set or of one model where asked for."""
    return contrasts.list_contrasts(session, preference_hash=preference_hash, model_id=model_id)


def get_contrast(session: Session, contrast_id: int) -> ContrastCard:
    """One contrast.

    Raises:
        NotFound: no such contrast.
    """
    return contrasts.get_contrast(session, contrast_id)


def list_rows(
    session: Session, contrast_id: int, *, sae_id: str | None, query: ContrastQuery
) -> ContrastList:
    """One page of the features of one SAE of a contrast; of its first SAE if none is named.

    Raises:
        NotFound: no such contrast, or the SAE is not in it.
        Invalid: the place of the page is none.
    """
    name = sae_id or get_contrast(session, contrast_id).saes[0].sae_id
    return contrasts.list_rows(session, contrast_id, sae_id=name, query=query)


def delete(session: Session, contrast_id: int) -> None:
    """Removes a contrast.

    Raises:
        NotFound: no such contrast.
    """
    contrasts.delete(session, contrast_id)
