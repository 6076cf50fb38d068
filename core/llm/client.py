"""The client of one endpoint: bounded, retried by class, counted, cached, stopped by its budget."""

import asyncio
import json
import logging
import random
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol, runtime_checkable

import aiohttp
import httpx2
import openai

from core.domain.explanation import Answer, Failure, FailureCode, Outcome
from core.domain.llm import (
    ChatRequest,
    EmbeddingRequest,
    ModelRequest,
    PromptRequest,
    Reply,
    Usage,
)
from core.llm.budget import Budget
from core.llm.cache import ReplyStore, cache_key, may_be_kept, read_reply, write_reply
from core.llm.context import ContextWindow
from core.llm.endpoint import Endpoint
from core.llm.gate import Gate
from core.llm.ledger import Ledger, LedgerRow
from core.llm.prices import NO_PRICES, PriceTable, estimate
from core.llm.transport import http_client
from core.llm.trouble import LASTING, Trouble, trouble_of
from core.llm.wire import (
    chat_body,
    chat_reply,
    embedding_body,
    embedding_reply,
    native_body,
    native_reply,
    prompt_body,
    prompt_reply,
)

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 30.0
_STOP_AFTER = 3
_NO_KEY = "none"
_GRACE_SECONDS = 10.0
_IN_HAND = 2  # requests prepared or under way, as a multiple of those that may be under way


@runtime_checkable
class ChatModel(Protocol):
    """Something that replies to requests: an endpoint's client, or a script."""

    async def reply(self, request: ModelRequest, *, item: str = "") -> Outcome[Reply]:
        """The reply, or a failure that says why there is none; never raises for a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientParts:
    """What a client may share with others; all optional.

    Attributes:
        gate: bounds the requests under way; share it among clients of one address.
        budget: hard limit; nothing is sent that could pass it.
        store: raw replies; None asks anew each time.
        cache_only: never send anything; what is not stored fails with code ``offline``.
    """

    gate: Gate | None = None
    budget: Budget | None = None
    store: ReplyStore | None = None
    ledger: Ledger | None = None
    prices: PriceTable = NO_PRICES
    cache_only: bool = False
    rng: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    outcome: Outcome[Reply]
    attempts: int
    seconds: float
    usage: Usage


class LlmClient:
    """One endpoint, used by many tasks of one event loop.

    Identical requests under way at the same time are sent once. After a few lasting troubles in a
    row (keys, quota, nobody listening) nothing more is sent and ``stopped`` says why, so that a
    run can pause instead of failing item by item.

    Attributes:
        raw: the library's client, for questions that requests do not offer.
        context: what fits into the model's context, once that is known.
    """

    def __init__(self, endpoint: Endpoint, parts: ClientParts | None = None) -> None:
        self.endpoint = endpoint
        self.stopped: Failure | None = None
        self.context: ContextWindow | None = None
        self._parts = parts or ClientParts()
        self._gate = self._parts.gate or Gate(endpoint.concurrency)
        self._in_hand = asyncio.Semaphore(_IN_HAND * endpoint.concurrency)
        self._under_way: dict[str, asyncio.Task[Outcome[Reply]]] = {}
        self._lasting_in_a_row = 0
        key = endpoint.api_key
        self.raw = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key.get_secret_value() if key else _NO_KEY,
            timeout=endpoint.timeout_seconds,
            max_retries=0,
            http_client=http_client(endpoint),
        )

    async def __aenter__(self) -> "LlmClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send nothing more, wait a little for what was sent, and close the connections.

        An answer on its way is paid for; it is waited for so that it can be kept.
        """
        self.stopped = self.stopped or _cancelled()
        tasks = list(self._under_way.values())
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.raw.close()

    async def reply(self, request: ModelRequest, *, item: str = "") -> Outcome[Reply]:
        """The reply from the cache, from an identical request under way, or from the server."""
        async with self._in_hand:  # so that preparing thousands delays nobody who could be sent
            key = cache_key(self.endpoint, request)
            if key not in self._under_way:
                # also looking it up, lest an answer that comes meanwhile be asked for again
                task = asyncio.create_task(self._kept_or_sent(key, request, item))
                self._under_way[key] = task
                task.add_done_callback(lambda _: self._under_way.pop(key, None))
            return await asyncio.shield(self._under_way[key])

    async def _kept_or_sent(self, key: str, request: ModelRequest, item: str) -> Outcome[Reply]:
        kept = await self._stored(key)
        if kept is None:
            return await self._send(key, request, item)
        self._enter_cached(request, kept, item)
        return Answer(replace(kept, from_cache=True))

    async def _send(self, key: str, request: ModelRequest, item: str) -> Outcome[Reply]:
        if self._parts.cache_only:
            return Failure(code=FailureCode.OFFLINE, message="Not in the cache.")
        most = estimate(request, extra_tokens=self.endpoint.extra_tokens)
        too_long = await self._too_long(request, most)
        if too_long is not None:
            return too_long
        path, body = self._wire(request)
        async with self._gate.entered():
            if self.stopped is not None:
                return self.stopped
            budget = self._parts.budget
            reservation = budget.reserve(most) if budget else None
            if budget and reservation is None:
                return self._out_of_budget(budget)
            sent = _Sent(outcome=_cancelled(), attempts=1, seconds=0.0, usage=most)
            try:
                sent = await self._attempts(request, path, body, most)
            finally:
                if budget and reservation is not None:
                    budget.settle(reservation, sent.usage)
        self._enter(request, sent, item)
        if isinstance(sent.outcome, Answer) and may_be_kept(request, sent.outcome.value):
            self._keep(key, sent.outcome.value)
        return sent.outcome

    async def _too_long(self, request: ModelRequest, most: Usage) -> Failure | None:
        if self.context is None:
            return None
        return await self.context.refusal(request, answer_tokens=most.completion)

    async def _attempts(self, request: ModelRequest, path: str, body: bytes, most: Usage) -> _Sent:
        loop = asyncio.get_running_loop()
        start = loop.time()
        attempt = 0
        while True:
            attempt += 1
            got = await self._attempt(request, path, body)
            elapsed = loop.time() - start
            if not isinstance(got, Trouble):
                self._note(None)
                return _Sent(outcome=got, attempts=attempt, seconds=elapsed, usage=_used(got, most))
            logger.debug("Attempt %s failed: %s", attempt, got.code.value)
            wait = self._wait(got, attempt) if self.stopped is None else None
            if wait is None:
                self._note(got)
                return _Sent(
                    outcome=got.failure(), attempts=attempt, seconds=elapsed, usage=Usage()
                )
            if got.code is FailureCode.RATE_LIMIT:
                self._gate.close_for(wait)
            await asyncio.sleep(wait)

    def _wire(self, request: ModelRequest) -> tuple[str, bytes]:
        """Where a request goes, and its body."""
        match request:
            case ChatRequest():
                path, body = "/chat/completions", chat_body(self.endpoint, request)
            case PromptRequest(native=True):
                path, body = f"{self.endpoint.root_url}/generate", native_body(request)
            case PromptRequest():
                path, body = "/completions", prompt_body(self.endpoint, request)
            case EmbeddingRequest():
                path, body = "/embeddings", embedding_body(self.endpoint, request)
        return path, json.dumps(body, ensure_ascii=False).encode(errors="replace")

    async def _attempt(
        self, request: ModelRequest, path: str, body: bytes
    ) -> Outcome[Reply] | Trouble:
        """One request: a reply, an answer that holds none, or a trouble."""
        try:
            async with asyncio.timeout(self.endpoint.timeout_seconds):
                response = await self._post(path, body)
            answer, request_id = json.loads(response.content), _request_id(response)
        except (openai.OpenAIError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            return trouble_of(error)
        except RecursionError:  # brackets without end
            return trouble_of(ValueError("no JSON"))
        match request:
            case ChatRequest():
                return chat_reply(answer, request_id=request_id)
            case PromptRequest(native=True):
                return native_reply(answer, request, model=self.endpoint.model)
            case PromptRequest(places=places):
                return prompt_reply(answer, places=places, request_id=request_id)
            case EmbeddingRequest(texts=texts):
                return embedding_reply(answer, n=len(texts), request_id=request_id)

    async def _post(self, path: str, body: bytes) -> httpx2.Response:
        # The typed methods spend more than ten milliseconds a request on transforming messages.
        return await self.raw.post(path, content=body, cast_to=httpx2.Response)

    def _wait(self, trouble: Trouble, attempt: int) -> float | None:
        """Seconds before the next attempt; None when there is none."""
        if not trouble.passing or attempt >= self.endpoint.attempts:
            return None
        if trouble.retry_after is not None:
            long = trouble.retry_after > self.endpoint.longest_wait_seconds
            return None if long else trouble.retry_after
        base: float = self.endpoint.backoff_seconds * 2 ** (attempt - 1)
        return min(base, _LONGEST_BACKOFF_SECONDS) * (0.75 + self._parts.rng.random() / 2)

    def _note(self, trouble: Trouble | None) -> None:
        if trouble is None or trouble.code not in LASTING:
            self._lasting_in_a_row = 0
            return
        self._lasting_in_a_row += 1
        if self._lasting_in_a_row >= _STOP_AFTER and self.stopped is None:
            self.stopped = trouble.failure()
            logger.warning("Stopped asking %s: %s", self.endpoint.base_url, trouble.code.value)

    def _out_of_budget(self, budget: Budget) -> Failure:
        reason = (
            "The budget's limit is in dollars but the model's price is not known."
            if budget.lacks_a_price
            else "The budget does not allow another request."
        )
        failed = Failure(code=FailureCode.BUDGET, message=reason)
        self.stopped = self.stopped or failed
        return failed

    async def _stored(self, key: str) -> Reply | None:
        text = await self._parts.store.find(key) if self._parts.store else None
        return read_reply(text) if text is not None else None

    def _keep(self, key: str, reply: Reply) -> None:
        if self._parts.store is not None:
            self._parts.store.put(key, write_reply(reply))

    def _enter_cached(self, request: ModelRequest, reply: Reply, item: str) -> None:
        sent = _Sent(outcome=Answer(reply), attempts=0, seconds=0.0, usage=reply.usage)
        self._enter(request, sent, item, from_cache=True)

    def _enter(
        self, request: ModelRequest, sent: _Sent, item: str, *, from_cache: bool = False
    ) -> None:
        if self._parts.ledger is None:
            return
        outcome = sent.outcome
        reply = outcome.value if isinstance(outcome, Answer) else None
        cost = 0.0 if from_cache else self._parts.prices.cost(self.endpoint.model, sent.usage)
        self._parts.ledger.add(
            LedgerRow(
                purpose=request.purpose,
                item=item,
                model=(reply.model if reply else "") or self.endpoint.model,
                usage=sent.usage,
                attempts=sent.attempts,
                seconds=sent.seconds,
                cost=cost,
                price_version=self._parts.prices.version,
                code=outcome.code if isinstance(outcome, Failure) else None,
                request_id=reply.request_id if reply else "",
                from_cache=from_cache,
            )
        )


def _used(outcome: Outcome[Reply], most: Usage) -> Usage:
    if isinstance(outcome, Failure):
        return Usage()
    usage = outcome.value.usage
    return replace(most, completion=0) if usage.estimated else usage


def _request_id(response: httpx2.Response) -> str:
    return str(response.headers.get("x-request-id") or "")


def _cancelled() -> Failure:
    return Failure(code=FailureCode.CANCELLED, message="The request was cancelled.")
