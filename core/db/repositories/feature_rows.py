"""Many features' contexts and logit effects as stored, for work that goes over thousands.

A page of a feature (feature_pages) shows more and is read alone; here every feature of a block is
read by one statement, and the tokens of contexts by another, only of those that are asked for.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.models.feature import FeatureEvidence
from core.db.models.harvest import HarvestContext
from core.db.packing.rows import unpack_random, unpack_rows
from core.db.packing.summary import unpack_summary
from core.db.packing.words import unpack_context
from core.db.repositories.evidence import find_part, one_of, random_contexts
from core.domain.activation import ContextRows

_MOST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRows:
    """One feature in one harvest.

    Attributes:
        kept: its own contexts, TOP and the quantile bands.
        random: the uniform sample of the corpus.
        promoted, suppressed: ids of the tokens that it makes more and less likely.
    """

    index: int
    harvest_id: int
    kept: ContextRows
    random: ContextRows
    promoted: tuple[int, ...]
    suppressed: tuple[int, ...]


def feature_rows(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None,
    indices: Sequence[int],
) -> tuple[FeatureRows, ...]:
    """Features by index; those that the SAE does not have are left out.

    Raises:
        NotFound: no such SAE or harvest.
    """
    part = find_part(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    columns = (FeatureEvidence.summary, FeatureEvidence.contexts, FeatureEvidence.random)
    wanted = [index for index in indices if 0 <= index < _MOST]
    query = select(FeatureEvidence.index.label("feature_index"), *columns).where(
        FeatureEvidence.harvest_sae_id == part.part_id, FeatureEvidence.index == one_of(wanted)
    )
    rows = session.execute(query.order_by(FeatureEvidence.index)).all()
    shared = random_contexts(session, part.part_id)
    found = []
    for row in rows:
        summary = unpack_summary(row.summary)
        found.append(
            FeatureRows(
                index=row.feature_index,
                harvest_id=part.harvest.harvest_id,
                kept=unpack_rows(row.contexts),
                random=unpack_random(shared, row.random),
                promoted=_tokens(summary.top_ids),
                suppressed=_tokens(summary.bottom_ids),
            )
        )
    return tuple(found)


def context_tokens(
    session: Session, *, harvest_id: int, numbers: Collection[int]
) -> dict[int, Int32[np.ndarray, " pos"]]:
    """Token ids of these contexts by number; those that the harvest does not keep are absent."""
    if not numbers:
        return {}
    query = select(HarvestContext.context_index, HarvestContext.tokens).where(
        HarvestContext.harvest_id == harvest_id,
        HarvestContext.context_index == one_of(sorted(numbers)),
    )
    return {row.context_index: unpack_context(row.tokens) for row in session.execute(query)}


def _tokens(ids: Int32[np.ndarray, " k"]) -> tuple[int, ...]:
    return tuple(token for token in ids.tolist() if token >= 0)
