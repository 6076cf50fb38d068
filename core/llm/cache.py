"""The cache of raw replies, keyed by everything that decides them."""

import hashlib
import json
from typing import Any, Protocol, runtime_checkable

from pydantic import TypeAdapter, ValidationError

from core.domain.llm import ChatRequest, Finish, ModelRequest, PromptRequest, Reply
from core.llm.endpoint import Endpoint

FORMAT = 1
_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
_CHAT: TypeAdapter[ChatRequest] = TypeAdapter(ChatRequest)
_PROMPT: TypeAdapter[PromptRequest] = TypeAdapter(PromptRequest)
_FEW_TOKENS = 2


@runtime_checkable
class ReplyStore(Protocol):
    """Where raw replies are kept; a database or memory."""

    def get(self, key: str) -> str | None:
        """The stored text of this key; None when there is none."""

    def put(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already keeps its first text."""


class MemoryStore:
    """Replies in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The stored text of this key; None when there is none."""
        return self.texts.get(key)

    def put(self, key: str, text: str) -> None:
        """Keep a text; a key that is there already keeps its first text."""
        self.texts.setdefault(key, text)


def cache_key(endpoint: Endpoint, request: ModelRequest) -> str:
    """sha256 over address, model, the whole prompt, every parameter and the sample's number.

    The API key is not part of it, nor how patient the client is.
    """
    parts = {
        "format": FORMAT,
        "family": "chat" if isinstance(request, ChatRequest) else "prompt",
        "base_url": endpoint.base_url.rstrip("/"),
        "model": endpoint.model,
        "extra_tokens": endpoint.extra_tokens,
        "with_sampling": endpoint.with_sampling,
        "request": _plain(request),
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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


def _plain(request: ModelRequest) -> Any:
    match request:
        case ChatRequest():
            return _CHAT.dump_python(request, mode="json")
        case PromptRequest():
            return _PROMPT.dump_python(request, mode="json")
