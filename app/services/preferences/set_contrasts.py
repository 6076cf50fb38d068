"""Contrasts of a preference set: which there are, and one SAE of one of them."""

from dataclasses import dataclass

from core.db.repositories import contrasts
from core.db.session import Session
from core.domain.views_align import (
    ContrastCard,
    ContrastList,
    ContrastQuery,
    ContrastSae,
    PreferenceSetCard,
)
from core.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenContrast:
    """A contrast of a set, through one of its SAEs.

    Attributes:
        contrasts: all of this set, the newest first.
        contrast, sae: None while there is no contrast.
        found: None where no features were asked for.
    """

    contrasts: tuple[ContrastCard, ...]
    contrast: ContrastCard | None
    sae: ContrastSae | None
    found: ContrastList | None


def look(
    session: Session,
    card: PreferenceSetCard,
    *,
    contrast_id: int | None,
    sae_id: str,
    query: ContrastQuery | None,
) -> SeenContrast:
    """A contrast of a set: the one that is named, else the newest.

    Raises:
        NotFound: the set has no such contrast, or the contrast no such SAE.
        Invalid: the place of the page is none.
    """
    known = contrasts.list_contrasts(session, preference_hash=card.content_hash)
    if contrast_id is None and not known:
        return SeenContrast(contrasts=(), contrast=None, sae=None, found=None)
    chosen = next((c for c in known if contrast_id in (None, c.contrast_id)), None)
    if chosen is None:
        raise NotFound(
            f"{card.name} has no contrast {contrast_id}.", hint="See the contrasts of the set."
        )
    sae = next((s for s in chosen.saes if sae_id in ("", s.sae_id)), None)
    if sae is None:
        raise NotFound(
            f"Contrast {chosen.contrast_id} does not hold {sae_id}.",
            hint="Choose one of its SAEs.",
        )
    found = None
    if query is not None:
        found = contrasts.list_rows(session, chosen.contrast_id, sae_id=sae.sae_id, query=query)
    return SeenContrast(contrasts=known, contrast=chosen, sae=sae, found=found)
