"""Explanations: added, edited without losing the old text, read with their scores, and found."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    and_,
    any_,
    func,
    literal,
    select,
    update,
)
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from core.db.models.explanation import FeatureExplanation
from core.db.repositories.cards import AnyRow
from core.db.repositories.item_rows import ItemRows
from core.db.repositories.newest import read_newest
from core.db.repositories.scores import cards_of
from core.domain.explanation import Choice, EvidenceStyle, Explanation, ExplanationMethod
from core.domain.ids import FeatureId
from core.domain.llm import Message
from core.domain.place import NewestPlace
from core.domain.preference import Role
from core.domain.views_explain import (
    ExplanationCard,
    ExplanationDetails,
    ExplanationSlice,
    FoundExplanation,
    ScoreCard,
)
from core.errors import Conflict, NotFound

_ROW = FeatureExplanation
_CHOICE: TypeAdapter[Choice] = TypeAdapter(Choice)
_CARD = (
    *(_ROW.id, _ROW.model_id, _ROW.sae_id, _ROW.feature_index, _ROW.harvest_id, _ROW.text),
    *(_ROW.method, _ROW.author, _ROW.style, _ROW.language, _ROW.template, _ROW.n_records),
    *(_ROW.endpoint_id, _ROW.job_id, _ROW.sample, _ROW.version, _ROW.superseded_by),
    *(_ROW.choice, _ROW.created_at),
)
_ITEMS = ItemRows(_ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExplanation:
    """An explanation that is to be stored, with what it was made from.

    Attributes:
        item_key: what it is in its job; None outside of jobs.
    """

    feature: FeatureId
    explanation: Explanation
    language: str = ""
    harvest_id: int | None = None
    messages: Sequence[Message] = ()
    context_indices: Sequence[int] = ()
    endpoint_id: int | None = None
    job_id: int | None = None
    item_key: str | None = None
    sample: int = 0
    version: int = 1


def add(session: Session, made: NewExplanation) -> int:
    """A new explanation; returns its id. The same item of the same job is added once."""
    return _ITEMS.add(session, _values(made))


def add_items(session: Session, made: Sequence[NewExplanation]) -> None:
    """Many items of one job at once; each item is added once."""
    _ITEMS.add_many(session, [_values(one) for one in made])


def edit(
    session: Session, explanation_id: int, *, text: str, author: str, version: int
) -> ExplanationCard:
    """A person's new text in place of an explanation, which stays as it was, with its scores.

    Raises:
        NotFound: no such explanation.
        Conflict: it was edited meanwhile: the version is not the present one.
    """
    query = select(*_CARD).where(_ROW.id == explanation_id).with_for_update()
    row = session.execute(query).one_or_none()
    if row is None:
        raise _missing(explanation_id)
    if row.superseded_by is not None or row.version != version:
        raise Conflict(
            f"Explanation {explanation_id} was changed meanwhile.",
            hint="Read it again, then edit the present text.",
        )
    human = NewExplanation(
        feature=_feature(row),
        explanation=Explanation(text=text, method=ExplanationMethod.HUMAN, author=author),
        language=row.language,
        version=version + 1,
    )
    new_id = add(session, human)
    session.execute(update(_ROW).where(_ROW.id == explanation_id).values(superseded_by=new_id))
    return get_card(session, new_id)


def set_choice(session: Session, explanation_id: int, choice: Choice) -> None:
    """Note how an explanation did among the samples of its prompt."""
    values = {"choice": _CHOICE.dump_python(choice, mode="json")}
    session.execute(update(_ROW).where(_ROW.id == explanation_id).values(**values))


def delete(session: Session, explanation_id: int) -> None:
    """Remove an explanation with its scores.

    Raises:
        NotFound: no such explanation.
    """
    gone = delete_rows(_ROW).where(_ROW.id == explanation_id).returning(_ROW.id)
    if session.execute(gone).scalar_one_or_none() is None:
        raise _missing(explanation_id)


def list_cards(
    session: Session, feature: FeatureId, *, with_superseded: bool = False
) -> tuple[ExplanationCard, ...]:
    """A feature's explanations with their scores, the newest first."""
    query = select(*_CARD).where(_of(feature)).order_by(_ROW.id.desc())
    if not with_superseded:
        query = query.where(_ROW.superseded_by.is_(None))
    return _cards(session, query)


def get_card(session: Session, explanation_id: int) -> ExplanationCard:
    """One explanation with its scores.

    Raises:
        NotFound: no such explanation.
    """
    found = _cards(session, select(*_CARD).where(_ROW.id == explanation_id))
    if not found:
        raise _missing(explanation_id)
    return found[0]


def get_details(session: Session, explanation_id: int) -> ExplanationDetails:
    """An explanation with what it was made from.

    Raises:
        NotFound: no such explanation.
    """
    card = get_card(session, explanation_id)
    query = select(_ROW.messages, _ROW.context_indices).where(_ROW.id == explanation_id)
    row = session.execute(query).one()
    return ExplanationDetails(
        card=card,
        messages=tuple(Message(role=Role(m["role"]), content=m["content"]) for m in row.messages),
        context_indices=tuple(row.context_indices),
    )


def seen_contexts(session: Session, explanation_ids: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Numbers of the contexts that explanations were made from, by id; unknown ids are absent."""
    wanted = any_(literal(list(explanation_ids), ARRAY(BigInteger)))
    query = select(_ROW.id, _ROW.context_indices).where(_ROW.id == wanted)
    return {row.id: tuple(row.context_indices) for row in session.execute(query)}


def current(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    methods: Collection[ExplanationMethod] | None = None,
    indices: Collection[int] | None = None,
) -> tuple[ExplanationCard, ...]:
    """Explanations of an SAE that no edit has replaced, by feature; without their scores.

    Args:
        session: the database.
        model_id: the model.
        sae_id: the SAE.
        methods: only those that came about in these ways.
        indices: only those of these features.
    """
    query = select(*_CARD).where(
        _ROW.model_id == model_id,
        _ROW.sae_id == sae_id,
        _ROW.superseded_by.is_(None),
    )
    if methods is not None:
        query = query.where(_ROW.method.in_([method.value for method in methods]))
    if indices is not None:
        query = query.where(_ROW.feature_index.in_(list(indices)))
    rows = session.execute(query.order_by(_ROW.feature_index, _ROW.id))
    return tuple(_card(row, ()) for row in rows)


def of_features(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    indices: Collection[int],
    words: str | None = None,
) -> tuple[ExplanationCard, ...]:
    """Present explanations of these features with their scores, by feature, the newest first.

    With ``words`` only those that hold them.
    """
    query = select(*_CARD).where(
        _ROW.model_id == model_id,
        _ROW.sae_id == sae_id,
        _ROW.feature_index.in_(list(indices)),
        _ROW.superseded_by.is_(None),
    )
    if words:
        query = query.where(holds(words))
    return _cards(session, query.order_by(_ROW.feature_index, _ROW.id.desc()))


def of_job(session: Session, job_id: int) -> tuple[ExplanationCard, ...]:
    """Explanations that a job made and no edit has replaced, by feature; without their scores."""
    query = select(*_CARD).where(_ROW.job_id == job_id, _ROW.superseded_by.is_(None))
    rows = session.execute(query.order_by(_ROW.feature_index, _ROW.id))
    return tuple(_card(row, ()) for row in rows)


def page_of_job(
    session: Session, job_id: int, *, place: NewestPlace, limit: int
) -> ExplanationSlice:
    """What a job wrote, with scores, the newest first; the place is by ids of explanations."""
    query = select(*_CARD).where(_ROW.job_id == job_id, _ROW.superseded_by.is_(None))
    page = read_newest(session, query, _ROW.id, place=place, limit=limit)
    return ExplanationSlice(
        cards=_with_scores(session, page.found),
        previous_after=page.previous_after,
        next_before=page.next_before,
    )


def explained(
    session: Session, *, model_id: str, sae_id: str, endpoint_id: int | None, except_job: int
) -> frozenset[tuple[int, EvidenceStyle | None]]:
    """Features and styles that an endpoint, or the lookup table for None, has explained before."""
    query = select(_ROW.feature_index, _ROW.style).where(
        _ROW.model_id == model_id,
        _ROW.sae_id == sae_id,
        _ROW.superseded_by.is_(None),
        _ROW.job_id.is_distinct_from(except_job),
    )
    if endpoint_id is None:
        query = query.where(_ROW.method == ExplanationMethod.TOKEN_LOOKUP.value)
    else:
        query = query.where(_ROW.endpoint_id == endpoint_id)
    return frozenset(
        (row.feature_index, None if row.style is None else EvidenceStyle(row.style))
        for row in session.execute(query)
    )


def holds(words: str) -> ColumnElement[bool]:
    """The condition that an explanation holds all these words or, as a whole, this text."""
    wanted = func.websearch_to_tsquery("simple", words)
    return _ROW.words.bool_op("@@")(wanted) | _ROW.text.icontains(words, autoescape=True)


def search(
    session: Session,
    words: str,
    *,
    model_id: str | None = None,
    sae_id: str | None = None,
    limit: int = 50,
) -> tuple[FoundExplanation, ...]:
    """Current explanations that hold all these words or, as a whole, this text; best first."""
    wanted = func.websearch_to_tsquery("simple", words)
    rank = func.ts_rank(_ROW.words, wanted).label("rank")
    query = select(*_CARD, rank).where(holds(words), _ROW.superseded_by.is_(None))
    if model_id is not None:
        query = query.where(_ROW.model_id == model_id)
    if sae_id is not None:
        query = query.where(_ROW.sae_id == sae_id)
    rows = session.execute(query.order_by(rank.desc(), _ROW.id.desc()).limit(limit)).all()
    scores = cards_of(session, [row.id for row in rows])
    return tuple(
        FoundExplanation(card=_card(row, scores.get(row.id, ())), rank=row.rank) for row in rows
    )


def _values(made: NewExplanation) -> dict[str, Any]:
    explanation = made.explanation
    return {
        "model_id": made.feature.model_id,
        "sae_id": made.feature.sae_id,
        "feature_index": made.feature.index,
        "harvest_id": made.harvest_id,
        "text": explanation.text,
        "method": explanation.method.value,
        "author": explanation.author,
        "style": explanation.style,
        "language": made.language,
        "template": explanation.template,
        "n_records": explanation.n_records,
        "messages": [{"role": m.role.value, "content": m.content} for m in made.messages],
        "context_indices": list(made.context_indices),
        "endpoint_id": made.endpoint_id,
        "job_id": made.job_id,
        "item_key": made.item_key,
        "sample": made.sample,
        "version": made.version,
    }


def _cards(session: Session, query: Select[*tuple[Any, ...]]) -> tuple[ExplanationCard, ...]:
    return _with_scores(session, session.execute(query).all())


def _with_scores(session: Session, rows: Sequence[AnyRow]) -> tuple[ExplanationCard, ...]:
    scores = cards_of(session, [row.id for row in rows])
    return tuple(_card(row, scores.get(row.id, ())) for row in rows)


def _of(feature: FeatureId) -> Any:
    return and_(
        _ROW.model_id == feature.model_id,
        _ROW.sae_id == feature.sae_id,
        _ROW.feature_index == feature.index,
    )


def _feature(row: AnyRow) -> FeatureId:
    return FeatureId(model_id=row.model_id, sae_id=row.sae_id, index=row.feature_index)


def _card(row: AnyRow, scores: tuple[ScoreCard, ...]) -> ExplanationCard:
    return ExplanationCard(
        explanation_id=row.id,
        feature=_feature(row),
        explanation=Explanation(
            text=row.text,
            method=ExplanationMethod(row.method),
            author=row.author,
            style=None if row.style is None else EvidenceStyle(row.style),
            template=row.template,
            n_records=row.n_records,
        ),
        language=row.language,
        harvest_id=row.harvest_id,
        endpoint_id=row.endpoint_id,
        job_id=row.job_id,
        sample=row.sample,
        version=row.version,
        superseded_by=row.superseded_by,
        created_at=row.created_at,
        choice=None if row.choice is None else _CHOICE.validate_python(row.choice),
        scores=scores,
    )


def _missing(explanation_id: int) -> NotFound:
    return NotFound(f"There is no explanation {explanation_id}.", hint="It may have been deleted.")
