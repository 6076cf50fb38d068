"""Endpoints: stored with their keys sealed, shown without them."""

from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete as delete_rows
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.models.explanation import LlmEndpoint
from core.domain.endpoint import EndpointSettings
from core.domain.views_explain import EndpointAbilities, EndpointCard, KeySource
from core.errors import Conflict, NotFound
from core.llm.capabilities import Capabilities

_CAPABILITIES: TypeAdapter[Capabilities] = TypeAdapter(Capabilities)


def add(session: Session, settings: EndpointSettings, *, key_sealed: bytes | None) -> int:
    """A new endpoint; returns its id.

    Raises:
        Conflict: the name is taken.
    """
    row = insert(LlmEndpoint).values(**settings.model_dump(), key_sealed=key_sealed)
    with session.begin_nested():
        try:
            return session.execute(row.returning(LlmEndpoint.id)).scalar_one()
        except IntegrityError as error:
            raise _taken(settings.name) from error


def change(
    session: Session, endpoint_id: int, settings: EndpointSettings, *, key_sealed: bytes | None
) -> None:
    """Replace an endpoint's settings and key; what it can do is kept only at the same place.

    Raises:
        NotFound: no such endpoint.
        Conflict: the name is taken.
    """
    before = get_card(session, endpoint_id)
    values: dict[str, Any] = {**settings.model_dump(), "key_sealed": key_sealed}
    if (before.base_url, before.model) != (settings.base_url, settings.model):
        values |= {"capabilities": None, "probed_at": None}
    with session.begin_nested():
        try:
            session.execute(
                update(LlmEndpoint).where(LlmEndpoint.id == endpoint_id).values(**values)
            )
        except IntegrityError as error:
            raise _taken(settings.name) from error


def delete(session: Session, endpoint_id: int) -> None:
    """Remove an endpoint; explanations and scores that it made stay.

    Raises:
        NotFound: no such endpoint.
    """
    gone = delete_rows(LlmEndpoint).where(LlmEndpoint.id == endpoint_id).returning(LlmEndpoint.id)
    if session.execute(gone).scalar_one_or_none() is None:
        raise _missing(endpoint_id)


def list_cards(session: Session) -> tuple[EndpointCard, ...]:
    """Every endpoint, by name."""
    rows = session.execute(select(LlmEndpoint).order_by(LlmEndpoint.name)).scalars()
    return tuple(_card(row) for row in rows)


def get_card(session: Session, endpoint_id: int) -> EndpointCard:
    """One endpoint.

    Raises:
        NotFound: no such endpoint.
    """
    return _card(_row(session, endpoint_id))


def get_sealed_key(session: Session, endpoint_id: int) -> bytes | None:
    """The encrypted key of an endpoint; None when none is stored."""
    return _row(session, endpoint_id).key_sealed


def save_capabilities(session: Session, endpoint_id: int, found: Capabilities) -> None:
    """Remember what an endpoint can do."""
    values = {"capabilities": _CAPABILITIES.dump_python(found, mode="json")}
    query = update(LlmEndpoint).where(LlmEndpoint.id == endpoint_id)
    session.execute(query.values(**values, probed_at=func.now()))
    session.expire_all()


def get_capabilities(session: Session, endpoint_id: int) -> Capabilities | None:
    """What an endpoint can do; None when it was not tested, or by another version."""
    return _capabilities(_row(session, endpoint_id))


def _row(session: Session, endpoint_id: int) -> LlmEndpoint:
    query = select(LlmEndpoint).where(LlmEndpoint.id == endpoint_id)
    row = session.execute(query.execution_options(populate_existing=True)).scalar_one_or_none()
    if row is None:
        raise _missing(endpoint_id)
    return row


def _capabilities(row: LlmEndpoint) -> Capabilities | None:
    try:
        return None if row.capabilities is None else _CAPABILITIES.validate_python(row.capabilities)
    except ValidationError:
        return None


def _card(row: LlmEndpoint) -> EndpointCard:
    source = KeySource.NONE if row.key_sealed is None else KeySource.STORED
    settings = EndpointSettings.model_fields.keys() - {"key_variable"}
    return EndpointCard(
        endpoint_id=row.id,
        key_source=KeySource.ENVIRONMENT if row.key_variable else source,
        key_variable=row.key_variable,
        abilities=_abilities(row),
        created_at=row.created_at,
        **{name: getattr(row, name) for name in settings},
    )


def _abilities(row: LlmEndpoint) -> EndpointAbilities | None:
    found = _capabilities(row)
    if found is None or row.probed_at is None:
        return None
    return EndpointAbilities(
        served_as=found.served_as,
        chat=found.chat,
        chat_logprobs=found.chat_logprobs,
        prompt_logprobs=found.prompt_logprobs.value,
        json_schema=found.json_schema,
        tokenizer=found.tokenizer,
        ten_is_one_token=found.ten_is_one_token,
        modes=found.modes,
        scale_top=found.scale_top,
        context_limit=found.context_limit,
        embedding_size=found.embedding_size,
        notes=found.notes,
        probed_at=row.probed_at,
    )


def _missing(endpoint_id: int) -> NotFound:
    return NotFound(f"There is no endpoint {endpoint_id}.", hint="See the list of endpoints.")


def _taken(name: str) -> Conflict:
    return Conflict(f"An endpoint {name!r} exists already.", hint="Choose another name.")
