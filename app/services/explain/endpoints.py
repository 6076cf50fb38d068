"""Endpoints of language models: kept with their keys sealed, and tested for what they can do."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace

from pydantic import SecretStr, ValidationError

from app.services.problems import FieldProblem, FieldsInvalid, field_problems
from core.db.repositories import endpoints
from core.db.session import Session, SessionScope
from core.domain.endpoint import EndpointSettings
from core.domain.views_explain import EndpointCard, KeySource
from core.errors import Invalid
from core.explaining.connection import read_endpoint
from core.explaining.keys import KeyRing
from core.llm.capabilities import probe
from core.llm.client import LlmClient
from core.llm.endpoint import Endpoint

_TEST_SECONDS = 60.0  # somebody waits for the outcome, unlike in a run
_TEST_ATTEMPTS = 2


def list_endpoints(session: Session) -> tuple[EndpointCard, ...]:
    """Every endpoint, by name."""
    return endpoints.list_cards(session)


def get_endpoint(session: Session, endpoint_id: int) -> EndpointCard:
    """One endpoint.

    Raises:
        NotFound: no such endpoint.
    """
    return endpoints.get_card(session, endpoint_id)


def check(values: Mapping[str, object]) -> EndpointSettings:
    """Settings of an endpoint from JSON-like values.

    Raises:
        FieldsInvalid: with every problem found.
    """
    try:
        return EndpointSettings.model_validate(dict(values))
    except ValidationError as error:
        raise FieldsInvalid(field_problems(error)) from error


def key_problem(keys: KeyRing, card: EndpointCard) -> str:
    """Why an endpoint's key cannot be had here, in a sentence; empty when it can, or none is used.

    The process that runs jobs has an environment of its own.
    """
    if card.key_source is not KeySource.ENVIRONMENT:
        return ""
    try:
        keys.from_environment(card.key_variable)
    except Invalid as error:
        return f"{error.message} {error.hint}"
    return ""


def add(
    session: Session, keys: KeyRing, settings: EndpointSettings, *, api_key: SecretStr | None = None
) -> EndpointCard:
    """A new endpoint; its key is sealed before it is stored and never shown again.

    Raises:
        Conflict: the name is taken.
        FieldsInvalid: both a key and a variable are given.
    """
    _check_key(settings, api_key)
    sealed = keys.seal(api_key) if api_key else None
    return endpoints.get_card(session, endpoints.add(session, settings, key_sealed=sealed))


def change(
    session: Session,
    keys: KeyRing,
    endpoint_id: int,
    settings: EndpointSettings,
    *,
    api_key: SecretStr | None = None,
    forget_key: bool = False,
) -> EndpointCard:
    """New settings of an endpoint; its stored key stays unless another is given or it is forgotten.

    A stored key is never sent to another address than it was entered for.

    Raises:
        NotFound: no such endpoint.
        Conflict: the name is taken.
        FieldsInvalid: both a key and a variable are given, or the address changes and the key of
            the old one is not given anew.
    """
    _check_key(settings, api_key)
    before = endpoints.get_card(session, endpoint_id)
    sealed = endpoints.get_sealed_key(session, endpoint_id)
    if api_key:
        sealed = keys.seal(api_key)
    elif forget_key or settings.key_variable:
        sealed = None
    elif before.key_source is KeySource.STORED and before.base_url != settings.base_url:
        raise _wrong(
            "api_key",
            "The stored key was entered for another address.",
            hint="Enter the key for this address, or forget it.",
        )
    endpoints.change(session, endpoint_id, settings, key_sealed=sealed)
    return endpoints.get_card(session, endpoint_id)


def delete(session: Session, endpoint_id: int) -> None:
    """Forgets an endpoint and its key; what it explained and scored stays.

    Raises:
        NotFound: no such endpoint.
    """
    endpoints.delete(session, endpoint_id)


async def probe_endpoint(scope: SessionScope, keys: KeyRing, endpoint_id: int) -> EndpointCard:
    """Asks an endpoint a handful of short questions, finds out what it can do and remembers it.

    Raises:
        NotFound: no such endpoint.
        Invalid: its key cannot be had.
        LlmUnavailable: nobody answers, or the key is refused.
    """

    def read() -> LlmClient:
        with scope() as session:
            return LlmClient(_for_test(read_endpoint(session, endpoint_id, keys)[1]))

    def save() -> EndpointCard:
        with scope() as session:
            endpoints.save_capabilities(session, endpoint_id, found)
            return endpoints.get_card(session, endpoint_id)

    async with await asyncio.to_thread(read) as client:
        found = await probe(client)
    return await asyncio.to_thread(save)


def _for_test(endpoint: Endpoint) -> Endpoint:
    return replace(
        endpoint,
        timeout_seconds=min(endpoint.timeout_seconds, _TEST_SECONDS),
        attempts=min(endpoint.attempts, _TEST_ATTEMPTS),
    )


def _check_key(settings: EndpointSettings, key: SecretStr | None) -> None:
    """Refuse two sources of one key, and what no header can carry; the key is never quoted."""
    if key and not re.fullmatch(r"[\x21-\x7e]+", key.get_secret_value()):
        raise _wrong(
            "api_key",
            "The key holds spaces or characters that no key has.",
            hint="Paste the key alone.",
        )
    if settings.key_variable and key:
        raise _wrong(
            "api_key",
            "A key and a variable are given.",
            hint="Give the key itself, or the name of the variable that holds it.",
        )


def _wrong(path: str, message: str, *, hint: str) -> FieldsInvalid:
    return FieldsInvalid((FieldProblem(path=path, message=message, hint=hint),))
