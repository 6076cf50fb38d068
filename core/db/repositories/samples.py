"""Samples: what base and aligned model of a drift wrote to the same prompts."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.models.alignment import Drift, DriftSample
from core.db.repositories.drifts import cards_of, get_drift, sampling_of
from core.domain.preference import Role, Turn
from core.domain.views_drift import Sample, SamplePair, SampleSet
from core.errors import NotFound


def get_samples(session: Session, drift_id: int) -> SampleSet:
    """All samples of a drift, in the order of its prompts.

    Raises:
        NotFound: no such drift, or it wrote none.
    """
    row = session.get(Drift, drift_id) if 0 < drift_id < 2**31 else None
    settings = None if row is None else sampling_of(row)
    if row is None or settings is None:
        get_drift(session, drift_id)
        raise NotFound(
            f"Drift {drift_id} wrote no samples.", hint="Measure again with prompts to sample."
        )
    query = select(DriftSample).where(DriftSample.drift_id == drift_id)
    found = session.execute(query.order_by(DriftSample.position)).scalars()
    return SampleSet(
        drift=cards_of(session, [row])[0],
        settings=settings,
        pairs=tuple(_pair(sample) for sample in found),
    )


def _pair(row: DriftSample) -> SamplePair:
    return SamplePair(
        position=row.position,
        row=row.row,
        prompt=_turns(row.prompt),
        chosen=_turns(row.chosen),
        rejected=_turns(row.rejected),
        n_prompt_tokens=row.n_prompt_tokens,
        base=Sample(text=row.base_text, token_ids=tuple(row.base_tokens), ended=row.base_ended),
        aligned=Sample(
            text=row.aligned_text, token_ids=tuple(row.aligned_tokens), ended=row.aligned_ended
        ),
    )


def _turns(messages: list[dict[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(role=Role(m["role"]), content=m["content"]) for m in messages)
