"""Stored endpoints opened: their settings with a key, as a client that counts and remembers."""

from collections.abc import Callable
from dataclasses import dataclass

from core.db.repositories import endpoints
from core.db.session import Session, SessionScope
from core.domain.explanation import FailureCode
from core.domain.views_explain import EndpointCard, KeySource
from core.errors import BudgetReached, EndpointStopped, LlmUnavailable, LlmUnsupported
from core.explaining.answer_book import AnswerBook
from core.explaining.keys import KeyRing
from core.explaining.purse import Purse, PurseBudget
from core.llm.capabilities import Capabilities, probe
from core.llm.client import ClientParts, LlmClient
from core.llm.context import ContextWindow
from core.llm.endpoint import Endpoint, TokensField
from core.llm.prices import NO_PRICES, Price, PriceTable
from core.llm.tokenizer import TokenTable, tokenise


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An endpoint in use.

    Attributes:
        prices: version names the endpoint and its prices.
        table: token ids of its model, for all its simulations.
    """

    endpoint_id: int
    client: LlmClient
    capabilities: Capabilities
    prices: PriceTable
    table: TokenTable


def read_endpoint(
    session: Session, endpoint_id: int, keys: KeyRing
) -> tuple[EndpointCard, Endpoint]:
    """An endpoint with its key, ready to be asked.

    Raises:
        NotFound: no such endpoint.
        Invalid: its key cannot be had.
    """
    card = endpoints.get_card(session, endpoint_id)
    key = None
    match card.key_source:
        case KeySource.ENVIRONMENT:
            key = keys.from_environment(card.key_variable)
        case KeySource.STORED:
            sealed = endpoints.get_sealed_key(session, endpoint_id)
            key = None if sealed is None else keys.unseal(sealed)
        case KeySource.NONE:
            pass
    return card, Endpoint(
        base_url=card.base_url,
        model=card.model,
        api_key=key,
        concurrency=card.concurrency,
        timeout_seconds=card.timeout_seconds,
        attempts=card.attempts,
        tokens_field=TokensField(card.tokens_field),
        extra_tokens=card.extra_tokens,
        with_sampling=card.with_sampling,
    )


def prices_of(card: EndpointCard) -> PriceTable:
    """What an endpoint's model costs; no prices when they are not known."""
    if card.price_prompt is None or card.price_completion is None:
        return NO_PRICES
    price = Price(
        prompt=card.price_prompt, completion=card.price_completion, cached=card.price_cached
    )
    version = f"endpoint {card.endpoint_id}: {price.prompt}/{price.completion}/{price.cached}"
    return PriceTable(version=version, prices={card.model: price})


class Connections:
    """The endpoints of a run, each opened once; close them together."""

    def __init__(
        self,
        scope: SessionScope,
        *,
        keys: KeyRing,
        book: AnswerBook,
        purse: Purse | None = None,
        on_probe: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._scope = scope
        self._keys = keys
        self._book = book
        self._purse = purse
        self._on_probe = on_probe
        self._open: dict[int, Connection] = {}

    async def get(self, endpoint_id: int) -> Connection:
        """An endpoint, opened and known by what it can do.

        Raises:
            NotFound: no such endpoint.
            Invalid: its key cannot be had.
            EndpointStopped: nobody answers there.
        """
        if endpoint_id not in self._open:
            self._open[endpoint_id] = await self._connect(endpoint_id)
        return self._open[endpoint_id]

    def raise_if_stopped(self) -> None:
        """Raise what stopped any of the clients, as a reason to pause."""
        for connection in self._open.values():
            raise_if_stopped(connection.client)

    async def close(self) -> None:
        """Close every client."""
        for connection in self._open.values():
            await connection.client.close()

    async def _connect(self, endpoint_id: int) -> Connection:
        with self._scope() as session:
            card, endpoint = read_endpoint(session, endpoint_id, self._keys)
            known = endpoints.get_capabilities(session, endpoint_id)
        prices = prices_of(card)
        budget = None
        if self._purse is not None:
            budget = PurseBudget(self._purse, prices=prices, model=card.model)
        parts = ClientParts(
            budget=budget, store=self._book, ledger=self._book.ledger(endpoint_id), prices=prices
        )
        client = LlmClient(endpoint, parts)
        try:
            found = known or await self._probe(endpoint_id, card, client)
        except BaseException:
            await client.close()
            raise
        client.context = context_window(client, found)
        return Connection(
            endpoint_id=endpoint_id,
            client=client,
            capabilities=found,
            prices=prices,
            table=TokenTable(client),
        )

    async def _probe(self, endpoint_id: int, card: EndpointCard, client: LlmClient) -> Capabilities:
        self._on_probe(card.name)
        try:
            found = await probe(client)
        except LlmUnavailable as error:
            raise EndpointStopped(error.message, hint=error.hint) from error
        raise_if_stopped(client)
        with self._scope() as session:
            endpoints.save_capabilities(session, endpoint_id, found)
        return found


def context_window(client: LlmClient, found: Capabilities) -> ContextWindow | None:
    """How much a client may send at once; None when the server does not say."""
    if found.context_limit is None:
        return None

    async def count(text: str) -> int | None:
        try:
            return len(await tokenise(client, text))
        except LlmUnsupported:
            return None

    return ContextWindow(found.context_limit, count=count if found.tokenizer else None)


def raise_if_stopped(client: LlmClient) -> None:
    """Raise what stopped a client, as a reason to pause."""
    stopped = client.stopped
    if stopped is None:
        return
    if stopped.code is FailureCode.BUDGET:
        raise BudgetReached(stopped.message, hint="Raise the run's budget, then resume it.")
    raise EndpointStopped(
        f"{client.endpoint.model} answers nothing more ({stopped.code.value}): {stopped.message}",
        hint="Test the endpoint's connection, then resume.",
    )
