"""Scores: added with every example behind them, read as cards, and spread out over a run."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, cast, func, select, true
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.models.explanation import ExplanationScore, FeatureExplanation
from core.db.repositories.cards import AnyRow
from core.db.repositories.item_rows import ItemRows
from core.domain.explanation import (
    EvidenceStyle,
    ExplanationMethod,
    Floor,
    Missing,
    Score,
    ScoreKind,
    SimulationMode,
)
from core.domain.views_explain import (
    HEADLINES,
    JudgedExample,
    ScoreCard,
    ScoreDistribution,
    SimulatedExample,
)
from core.errors import NotFound

_LEVEL = 3  # a third of the default's time for a sixth more bytes

Examples = tuple[SimulatedExample, ...] | tuple[JudgedExample, ...]

_ROW = ExplanationScore
_SCORE: TypeAdapter[Score] = TypeAdapter(Score)
_SIMULATED: TypeAdapter[tuple[SimulatedExample, ...]] = TypeAdapter(tuple[SimulatedExample, ...])
_JUDGED: TypeAdapter[tuple[JudgedExample, ...]] = TypeAdapter(tuple[JudgedExample, ...])
_CARD = (
    *(_ROW.id, _ROW.explanation_id, _ROW.endpoint_id, _ROW.job_id, _ROW.score),
    *(_ROW.shuffled_with, _ROW.created_at),
)
_ITEMS = ItemRows(_ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewScore:
    """A score that is to be stored, with every example behind it.

    Attributes:
        item_key: what it is in its job; None outside of jobs.
    """

    explanation_id: int
    score: Score
    examples: Examples
    shuffled_with: str = ""
    endpoint_id: int | None = None
    job_id: int | None = None
    item_key: str | None = None


def add(session: Session, made: NewScore) -> int:
    """A new score; returns its id. The same item of the same job is added once."""
    return _ITEMS.add(session, _values(made))


def add_items(session: Session, made: Sequence[NewScore]) -> None:
    """Many items of one job at once; each item is added once."""
    _ITEMS.add_many(session, [_values(one) for one in made])


def cards_of(session: Session, explanation_ids: Sequence[int]) -> dict[int, tuple[ScoreCard, ...]]:
    """Scores of these explanations, the newest first; those without scores are absent."""
    query = select(*_CARD).where(_ROW.explanation_id.in_(list(explanation_ids)))
    found: dict[int, list[ScoreCard]] = defaultdict(list)
    for row in session.execute(query.order_by(_ROW.id.desc())) if explanation_ids else ():
        found[row.explanation_id].append(_card(row))
    return {explanation_id: tuple(cards) for explanation_id, cards in found.items()}


def get_with_examples(
    session: Session, score_id: int
) -> tuple[ScoreCard, tuple[SimulatedExample, ...], tuple[JudgedExample, ...]]:
    """A score with its simulated and its judged examples; one of the two is empty.

    Raises:
        NotFound: no such score.
    """
    row = session.execute(select(*_CARD, _ROW.details).where(_ROW.id == score_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no score {score_id}.", hint="It may have been deleted.")
    card = _card(row)
    text = zlib.decompress(row.details)
    if card.score.kind is ScoreKind.SIMULATION:
        return card, _SIMULATED.validate_json(text), ()
    return card, (), _JUDGED.validate_json(text)


def count_of_jobs(session: Session, job_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Explanations and scores that each job made; jobs that made nothing are absent."""
    wanted = list(job_ids)
    explained, scored = (
        {
            job_id: int(n)
            for job_id, n in session.execute(
                select(column, func.count()).where(column.in_(wanted)).group_by(column)
            )
        }
        for column in (FeatureExplanation.job_id, ExplanationScore.job_id)
    )
    return {
        job_id: (explained.get(job_id, 0), scored.get(job_id, 0))
        for job_id in job_ids
        if job_id in explained or job_id in scored
    }


def item_failures(session: Session, job_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Contexts that failed inside each job's scores, by code, commonest first."""
    each = func.jsonb_each_text(_ROW.score["failures"]).table_valued("key", "value").lateral()
    total = func.sum(cast(each.c.value, BigInteger)).label("n")
    query = (
        select(_ROW.job_id, each.c.key, total)
        .select_from(_ROW)
        .join(each, true())
        .where(_ROW.job_id.in_(list(job_ids)))
        .group_by(_ROW.job_id, each.c.key)
        .order_by(_ROW.job_id, total.desc(), each.c.key)
    )
    found: dict[int, dict[str, int]] = {}
    for job_id, code, n in session.execute(query):
        if job_id is not None:
            found.setdefault(job_id, {})[code] = int(n)
    return found


def distributions(
    session: Session, *, job_id: int | None = None, model_id: str | None = None
) -> tuple[ScoreDistribution, ...]:
    """Scores in groups within which they can be compared, by layer, kind and method."""
    layers = (
        select(Sae.model_id, Sae.sae_id, func.max(Sae.layer).label("layer"))
        .group_by(Sae.model_id, Sae.sae_id)
        .subquery()
    )
    about = FeatureExplanation
    query = (
        select(
            *(about.model_id, about.sae_id, layers.c.layer, about.method, about.style),
            *(_ROW.kind, _ROW.mode, _ROW.judge, _ROW.headline, _ROW.missing),
            _ROW.score["floors"].label("floors"),
        )
        .join(about, about.id == _ROW.explanation_id)
        .outerjoin(
            layers, (layers.c.model_id == about.model_id) & (layers.c.sae_id == about.sae_id)
        )
    )
    if job_id is not None:
        query = query.where(_ROW.job_id == job_id)
    if model_id is not None:
        query = query.where(about.model_id == model_id)
    groups: dict[tuple[Any, ...], list[AnyRow]] = defaultdict(list)
    for row in session.execute(query):
        groups[tuple(row)[:8]].append(row)
    ranked = sorted(
        groups, key=lambda key: tuple("" if part is None else str(part) for part in key)
    )
    return tuple(_distribution(groups[key]) for key in ranked)


def _distribution(rows: Sequence[AnyRow]) -> ScoreDistribution:
    first = rows[0]
    kind = ScoreKind(first.kind)
    floors: dict[Floor, list[float]] = defaultdict(list)
    for row in rows:
        for name, under in row.floors.items():
            value = under["metrics"].get(HEADLINES[kind].value, {}).get("value")
            if value is not None:
                floors[Floor(name)].append(value)
    return ScoreDistribution(
        model_id=first.model_id,
        sae_id=first.sae_id,
        layer=first.layer,
        method=ExplanationMethod(first.method),
        style=None if first.style is None else EvidenceStyle(first.style),
        kind=kind,
        mode=None if first.mode is None else SimulationMode(first.mode),
        judge=first.judge,
        metric=HEADLINES[kind],
        n=len(rows),
        missing=dict(Counter(Missing(row.missing) for row in rows if row.missing).most_common()),
        values=tuple(sorted(row.headline for row in rows if row.headline is not None)),
        floors={floor: median(values) for floor, values in floors.items()},
    )


def _values(made: NewScore) -> dict[str, Any]:
    score = made.score
    headline = score.metrics.get(HEADLINES[score.kind])
    return {
        "explanation_id": made.explanation_id,
        "endpoint_id": made.endpoint_id,
        "job_id": made.job_id,
        "item_key": made.item_key,
        "kind": score.kind.value,
        "mode": score.mode,
        "judge": score.judge.replace("\x00", ""),
        "headline": headline.value if headline else None,
        "missing": headline.missing if headline else Missing.NOT_APPLICABLE.value,
        "score": _SCORE.dump_python(score, mode="json"),
        "shuffled_with": made.shuffled_with,
        "details": _pack(score.kind, made.examples),
    }


def _pack(kind: ScoreKind, examples: Sequence[SimulatedExample | JudgedExample]) -> bytes:
    adapter: TypeAdapter[Any] = _SIMULATED if kind is ScoreKind.SIMULATION else _JUDGED
    return zlib.compress(adapter.dump_json(tuple(examples)), _LEVEL)


def _card(row: AnyRow) -> ScoreCard:
    return ScoreCard(
        score_id=row.id,
        explanation_id=row.explanation_id,
        score=_SCORE.validate_python(row.score),
        endpoint_id=row.endpoint_id,
        job_id=row.job_id,
        shuffled_with=row.shuffled_with,
        created_at=row.created_at,
    )
