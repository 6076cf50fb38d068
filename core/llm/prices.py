"""Prices of models, and what a request cost or may cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.domain.llm import ChatRequest, EmbeddingRequest, ModelRequest, PromptRequest, Usage

_BYTES_A_TOKEN = 3
_PER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for so many tokens; cached ones cost the prompt's price unless told otherwise."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (
            fresh * self.prompt + usage.cached * cached + usage.completion * self.completion
        ) / _PER


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices by model name; the version is stored with every cost."""

    version: str
    prices: Mapping[str, Price] = field(default_factory=dict)

    def cost(self, model: str, usage: Usage) -> float | None:
        """Dollars of a request; None when the model's price is not known."""
        price = self.prices.get(model)
        return None if price is None else price.cost(usage)


NO_PRICES = PriceTable(version="none")


def estimate(request: ModelRequest, *, extra_tokens: int = 0) -> Usage:
    """The most tokens a request may use: its prompt, three bytes a token, and its whole limit.

    >>> from core.domain.llm import PromptRequest, Purpose
    >>> request = PromptRequest(purpose=Purpose.SIMULATE, token_ids=(1, 2, 3), text="abc")
    >>> estimate(request).prompt
    3
    """
    match request:
        case ChatRequest():
            size = sum(len(m.content.encode()) for m in request.messages)
            prompt = math.ceil(size / _BYTES_A_TOKEN) + 4 * len(request.messages)
            completion = request.max_tokens + extra_tokens
        case EmbeddingRequest():
            size = sum(len(text.encode()) for text in request.texts)
            prompt = math.ceil(size / _BYTES_A_TOKEN) + 2 * len(request.texts)
            completion = 0
        case PromptRequest():
            ids = request.token_ids
            size = len(request.text.encode())
            prompt = len(ids) if ids is not None else math.ceil(size / _BYTES_A_TOKEN)
            completion = 0
    return Usage(prompt=prompt, completion=completion, estimated=True)
