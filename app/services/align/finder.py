"""Features for a constraint set: by tag, by words said of them, or foremost in a contrast."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.services.align.offers import OfferedSae
from core.db.repositories import contrasts, explained, explanations, labels
from core.db.session import Session
from core.domain.views_align import ContrastCard, ContrastQuery, ContrastSort
from core.errors import Invalid, NotFound

MOST = 500
SIDES = {
    "both": (ContrastSort.ABS_EFFECT, True),
    "chosen": (ContrastSort.EFFECT_SIZE, True),
    "rejected": (ContrastSort.EFFECT_SIZE, False),
}


def contrasts_of(session: Session, model_ids: frozenset[str]) -> tuple[ContrastCard, ...]:
    """Finished contrasts of some models, the newest first."""
    return tuple(c for c in contrasts.list_contrasts(session) if c.model_id in model_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A chosen feature: its label, its explanation, its peak token; each None where unknown."""

    index: int
    explanation: str | None
    peak_token: int | None
    label: str | None = None


def described(session: Session, sae: OfferedSae, indices: Sequence[int]) -> tuple[Described, ...]:
    """What is known of some features of an SAE, in the order given."""
    known = explained.known_of(
        session,
        model_id=sae.card.model_id,
        sae_id=sae.sae_id,
        revision=sae.card.revision,
        indices=[index for index in indices if index < sae.card.d_sae],
    )
    return tuple(
        Described(
            index=index,
            explanation=known[index].explanation if index in known else None,
            peak_token=known[index].peak_token if index in known else None,
            label=known[index].label if index in known else None,
        )
        for index in indices
    )


def by_words(
    session: Session, words: str, *, model_id: str, sae_id: str, limit: int
) -> tuple[int, ...]:
    """Features whose labels or present explanations hold the words, each once.

    Labels come first, by index; then explanations, the best first.

    Raises:
        Invalid: no words, or no feature is found.
    """
    if not words.strip():
        raise Invalid("Write words of labels or explanations to look for.")
    _check(limit)
    said = labels.indices_saying(
        session, model_id=model_id, sae_id=sae_id, words=words, limit=limit
    )
    found = explanations.search(
        session, words, model_id=model_id, sae_id=sae_id, limit=min(4 * limit, 4 * MOST)
    )
    explained_so = (one.card.feature.index for one in found)
    indices = tuple(dict.fromkeys([*said, *explained_so]))[:limit]
    if not indices:
        raise Invalid(
            f"No label or explanation of {sae_id} holds {words!r}.",
            hint="Label or explain its features first, or look for other words.",
        )
    return indices


def foremost(
    session: Session, contrast_id: int, *, sae_id: str, side: str, limit: int
) -> tuple[int, ...]:
    """The features of a contrast that differ most, or are more active on one side.

    Raises:
        NotFound: no such contrast, or it does not hold the SAE.
        Invalid: a number that is too large, or an unknown side.
    """
    _check(limit)
    if side not in SIDES:
        raise Invalid(f"{side!r} is no side.", hint=f"Choose {', '.join(SIDES)}.")
    sort, descending = SIDES[side]
    query = ContrastQuery(sort=sort, descending=descending, limit=limit)
    rows = contrasts.list_rows(session, contrast_id, sae_id=sae_id, query=query).rows
    wanted = {"both": (-1, 1), "chosen": (1,), "rejected": (-1,)}[side]
    kept = tuple(
        row.index for row in rows if (1 if row.difference > 0 else -1) in wanted and row.difference
    )
    if not kept:
        raise NotFound(f"No feature of {sae_id} is more active on that side.")
    return kept


def _check(limit: int) -> None:
    if not 1 <= limit <= MOST:
        raise Invalid(f"{limit} features are not possible.", hint=f"Choose 1 to {MOST}.")
