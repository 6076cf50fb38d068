"""The cache of raw replies, keyed by everything that decides them."""

import hashlib
import json
from functools import lru_cache
from typing import Protocol, runtime_checkable

from pydantic import TypeAdapter, ValidationError

from core.domain.llm import (
    ChatRequest,
    EmbeddingRequest,
    Finish,
    ModelRequest,
    PromptRequest,
    Reply,
)
from core.llm.endpoint import Endpoint

FORMAT = 2
_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
_CHAT: TypeAdapter[ChatRequest] = TypeAdapter(ChatRequest)
_PROMPT: TypeAdapter[PromptRequest] = TypeAdapter(PromptRequest)
_EMBEDDING: TypeAdapter[EmbeddingRequest] = TypeAdapter(EmbeddingRequest)
_FEW_TOKENS = 2


@runtime_checkable
class ReplyStore(Protocol):
    """Where raw replies are kept; a database or memory."""

    async def find(self, key: str) -> str | None:
        """The stored text of this key; None when there is none."""

    def put(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already keeps its first text."""


class MemoryStore:
    """Replies in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def find(self, key: str) -> str | None:
        """The stored text of this key; None when there is none."""
        return self.texts.get(key)

    def put(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already keeps its first text."""
        self.texts.setdefault(key, text)


def cache_key(endpoint: Endpoint, request: ModelRequest) -> str:
    """sha256 over address, model, the whole prompt, every parameter and the sample's number.

    The API key is not part of it, nor how patient the client is.
    """
    digest = hashlib.sha256(_prefix(endpoint, type(request).__name__))
    digest.update(_plain(request))
    return digest.hexdigest()


def may_be_kept(request: ModelRequest, reply: Reply) -> bool:
    """Whether a reply goes into the cache: not refusals, filtered or cut answers.

    An answer that was meant to be one number is not cut when it ends after it.
    """
    if reply.refusal or reply.finish is Finish.CONTENT_FILTER:
        return False
    if reply.finish is Finish.LENGTH and isinstance(request, ChatRequest):
        return request.max_tokens <= _FEW_TOKENS and bool(reply.tokens)
    return True


def write_reply(reply: Reply) -> str:
    """A reply as JSON."""
    return _REPLY.dump_json(reply).decode()


def read_reply(text: str) -> Reply | None:
    """A reply from JSON; None when an older format wrote it."""
    try:
        return _REPLY.validate_json(text)
    except ValidationError:
        return None


@lru_cache(maxsize=64)
def _prefix(endpoint: Endpoint, family: str) -> bytes:
    """What requests of one family at one endpoint have in common; ends with a line."""
    parts = {
        "format": FORMAT,
        "family": family,
        "base_url": endpoint.base_url.rstrip("/"),
        "model": endpoint.model,
        "extra_tokens": endpoint.extra_tokens,
        "with_sampling": endpoint.with_sampling,
    }
    return json.dumps(parts, sort_keys=True).encode() + b"\n"


def _plain(request: ModelRequest) -> bytes:
    """The request as JSON, every field in its order."""
    match request:
        case ChatRequest():
            return _CHAT.dump_json(request)
        case PromptRequest():
            return _PROMPT.dump_json(request)
        case EmbeddingRequest():
            return _EMBEDDING.dump_json(request)
