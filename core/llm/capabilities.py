"""What an endpoint can do, found by looking at its answers.

A status says nothing: servers accept fields and drop them in silence. Every ability is proved by
content that could not be there without it.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import openai

from core.domain.explanation import Answer, Failure, FailureCode, SimulationMode
from core.domain.llm import (
    AnswerSchema,
    ChatRequest,
    EmbeddingRequest,
    Message,
    PromptRequest,
    PromptToken,
    Purpose,
    Reply,
    read_vectors,
)
from core.domain.preference import Role
from core.errors import LlmUnavailable, LlmUnsupported
from core.llm.client import LlmClient
from core.llm.tokenizer import tokenise

_SCALE = 10
_ENOUGH_ALTERNATIVES = 5
_PROBE_TEXT = "cat\t10\ndog\tunknown\n"
_SECRET_WORD = "quorl-7"  # noqa: S105 - a word that no model says by itself
_UNREACHABLE = (FailureCode.CONNECTION, FailureCode.TIMEOUT, FailureCode.AUTH, FailureCode.QUOTA)


class PromptLogprobs(StrEnum):
    """How a server tells the log-probabilities of a prompt's own tokens."""

    NONE = "none"
    BY_TEXT = "by_text"
    BY_ID = "by_id"
    NATIVE = "native"  # by id, through SGLang's own interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model at one address can do.

    Attributes:
        served_as: name the server answers with.
        chat_logprobs: alternatives seen at a generated token; 0 for none.
        json_schema: whether a schema is enforced.
        tokenizer: whether the server tells token ids.
        ten_is_one_token: None when nothing told.
        bos: ids that a prompt begins with.
        context_limit: tokens of prompt and answer; None when the server does not say.
        embedding_size: numbers in an embedding; 0 where texts are not embedded.
        notes: sentences on what was seen, for the person who looks at it.
    """

    served_as: str
    chat: bool
    chat_logprobs: int
    prompt_logprobs: PromptLogprobs
    json_schema: bool
    tokenizer: bool
    ten_is_one_token: bool | None
    bos: tuple[int, ...] = ()
    context_limit: int | None = None
    embedding_size: int = 0
    notes: tuple[str, ...] = ()

    @property
    def modes(self) -> tuple[SimulationMode, ...]:
        """Ways to simulate that work here, best first; empty when nothing does."""
        found = []
        if self.prompt_logprobs is not PromptLogprobs.NONE:
            found.append(SimulationMode.ALL_AT_ONCE)
        if self.chat and self.chat_logprobs >= _ENOUGH_ALTERNATIVES:
            found.append(SimulationMode.ONE_AT_A_TIME)
        if self.chat:
            found.append(SimulationMode.SCHEMA)
        return tuple(found)

    @property
    def scale_top(self) -> int:
        """10, or 9 where "10" is known to be two tokens."""
        return _SCALE - 1 if self.ten_is_one_token is False else _SCALE


async def probe(client: LlmClient) -> Capabilities:
    """Find out what the endpoint can do: a handful of short requests.

    Raises:
        LlmUnavailable: nobody answers, or the key is refused.
    """
    chat, (prompt, kind), schema, tokens, limit, size = await asyncio.gather(
        _probe_chat(client),
        _probe_prompt(client),
        _probe_schema(client),
        _probe_tokenizer(client),
        _context_limit(client),
        _embedding_size(client),
    )
    reply = chat.value if isinstance(chat, Answer) else None
    if isinstance(chat, Failure) and chat.code in _UNREACHABLE:
        raise LlmUnavailable(
            f"The endpoint cannot be used: {chat.message}",
            hint="Check the address, the model's name and the key.",
        )
    ten = _first_known(tokens.ten_is_one, _ten_in_prompt(prompt), _ten_in_answer(reply))
    return Capabilities(
        served_as=reply.model if reply else "",
        chat=reply is not None,
        chat_logprobs=len(reply.tokens[0].top) if reply and reply.tokens else 0,
        prompt_logprobs=kind,
        json_schema=schema,
        tokenizer=tokens.present,
        ten_is_one_token=ten,
        bos=tokens.bos,
        context_limit=limit,
        embedding_size=size,
        notes=_notes(chat, prompt, tokens, ten),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """What the tokenizer's self-test found; None where nothing told."""

    present: bool
    ten_is_one: bool | None = None
    unknown_is_one: bool | None = None
    tab_is_separate: bool | None = None
    bos: tuple[int, ...] = ()


async def _probe_chat(client: LlmClient) -> Answer[Reply] | Failure:
    request = ChatRequest(
        purpose=Purpose.PROBE,
        messages=(Message(role=Role.USER, content="Write the number ten in digits, only that."),),
        max_tokens=4,
        top_logprobs=20,
    )
    outcome = await client.reply(request)
    if isinstance(outcome, Failure) and outcome.code in (
        FailureCode.BAD_REQUEST,
        FailureCode.UNSUPPORTED,
    ):
        plain = ChatRequest(purpose=Purpose.PROBE, messages=request.messages, max_tokens=4)
        return await client.reply(plain)
    return outcome


async def _probe_prompt(
    client: LlmClient,
) -> tuple[tuple[PromptToken | None, ...], PromptLogprobs]:
    """The prompt's places as the server tells them, and how: by id where any way gives ids."""
    request = PromptRequest(purpose=Purpose.PROBE, token_ids=None, text=_PROBE_TEXT)
    places = await _places(client, request)
    kind = _prompt_kind(places)
    if kind is PromptLogprobs.BY_ID:
        return places, kind
    native = await _places(client, replace(request, native=True))
    if _prompt_kind(native) is PromptLogprobs.BY_ID:
        return native, PromptLogprobs.NATIVE
    return places, kind


async def _places(client: LlmClient, request: PromptRequest) -> tuple[PromptToken | None, ...]:
    outcome = await client.reply(request)
    return outcome.value.prompt if isinstance(outcome, Answer) else ()


async def _probe_schema(client: LlmClient) -> bool:
    word = {"type": "string", "enum": [_SECRET_WORD]}
    schema = {
        "type": "object",
        "properties": {"word": word},
        "required": ["word"],
        "additionalProperties": False,
    }
    request = ChatRequest(
        purpose=Purpose.PROBE,
        messages=(Message(role=Role.USER, content="Say hello."),),
        max_tokens=32,
        schema=AnswerSchema.of("probe", schema),
    )
    outcome = await client.reply(request)
    if isinstance(outcome, Failure):
        return False
    try:
        answer: Any = json.loads(outcome.value.text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return bool(answer == {"word": _SECRET_WORD})


async def _probe_tokenizer(client: LlmClient) -> TokenizerFacts:
    texts = ("10", "unknown", "\t", "cat\tunknown")
    try:
        ten, unknown, tab, row = await asyncio.gather(*(tokenise(client, t) for t in texts))
        bos = await tokenise(client, "", with_special=True)
    except LlmUnsupported:
        return TokenizerFacts(present=False)
    return TokenizerFacts(
        present=True,
        ten_is_one=len(ten) == 1,
        unknown_is_one=len(unknown) == 1,
        tab_is_separate=row[-len(unknown) - len(tab) :] == (*tab, *unknown),
        bos=bos,
    )


async def _embedding_size(client: LlmClient) -> int:
    """By content: two texts have vectors of one length that differ."""
    request = EmbeddingRequest(purpose=Purpose.PROBE, texts=("a river in spring", "7 + 5"))
    outcome = await client.reply(request)
    if isinstance(outcome, Failure):
        return 0
    first, second = read_vectors(outcome.value)
    usable = first.any() and second.any() and not np.array_equal(first, second)
    return len(first) if usable else 0


async def _context_limit(client: LlmClient) -> int | None:
    try:
        listed = await client.raw.models.list()
    except (openai.OpenAIError, ValueError):
        return None
    for entry in getattr(listed, "data", None) or ():
        if entry.id == client.endpoint.model:
            extra = entry.model_extra or {}
            meta = extra.get("meta") or {}
            limit = extra.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train")
            return limit if isinstance(limit, int) else None
    return None


def _prompt_kind(places: tuple[PromptToken | None, ...]) -> PromptLogprobs:
    """By content: several places, the first without alternatives, another with at least two."""
    known = [place for place in places if place is not None]
    if len(known) < 4 or _n_alternatives(known[0]) > 0:
        return PromptLogprobs.NONE
    if max(_n_alternatives(place) for place in known) < 2:
        return PromptLogprobs.NONE
    has_ids = any(place.by_id for place in known)
    return PromptLogprobs.BY_ID if has_ids else PromptLogprobs.BY_TEXT


def _n_alternatives(place: PromptToken) -> int:
    return max(len(place.by_id), len(place.by_text))


def _ten_in_prompt(places: tuple[PromptToken | None, ...]) -> bool | None:
    texts = [place.token for place in places if place is not None]
    if "".join(texts) != _PROBE_TEXT:
        return None
    return "10" in texts


def _ten_in_answer(reply: Reply | None) -> bool | None:
    texts = [token.token.strip() for token in reply.tokens] if reply else []
    if "10" in texts:
        return True
    return False if "10" in "".join(texts) else None


def _first_known(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)


def _notes(
    chat: Answer[Reply] | Failure,
    prompt: tuple[PromptToken | None, ...],
    tokens: TokenizerFacts,
    ten: bool | None,
) -> tuple[str, ...]:
    found = []
    if isinstance(chat, Failure):
        found.append(f"Chat failed: {chat.message}")
    elif not chat.value.tokens:
        found.append("Log-probabilities of answers were asked for and not sent.")
    if not prompt:
        found.append("Log-probabilities of prompts are not sent; all-at-once cannot be used.")
    if ten is False:
        found.append('"10" is two tokens for this model; simulation uses the scale 0-9.')
    if tokens.unknown_is_one is False:
        found.append('"unknown" is several tokens; the first one is read.')
    if tokens.tab_is_separate is False:
        found.append("A tab is not its own token before text; prompts are sent as ids.")
    return tuple(found)
