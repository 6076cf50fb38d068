"""The tokenizer of the model behind an endpoint, asked over ``POST /tokenize``.

vLLM and llama.cpp both have it, under different names for the same things; one body fits both.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import openai

from core.domain.explanation import FailureCode
from core.errors import LlmUnsupported
from core.llm.client import LlmClient


class TokenTable(Mapping[str, tuple[int, ...]]):
    """Token ids of pieces of text, each tokenised alone and asked for once."""

    def __init__(self, client: LlmClient) -> None:
        self._client = client
        self._ids: dict[str, tuple[int, ...]] = {}
        self._places = asyncio.Semaphore(client.endpoint.concurrency)

    def __getitem__(self, piece: str) -> tuple[int, ...]:
        return self._ids[piece]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    async def learn(self, pieces: Iterable[str]) -> None:
        """Ask for the ids of the pieces that are not known yet.

        Raises:
            LlmUnsupported: the server has no tokenizer to ask.
        """
        unknown = [piece for piece in dict.fromkeys(pieces) if piece not in self._ids]
        await asyncio.gather(*(self._learn_one(piece) for piece in unknown))

    async def _learn_one(self, piece: str) -> None:
        async with self._places:
            self._ids[piece] = await tokenise(self._client, piece)


async def tokenise(client: LlmClient, text: str, *, with_special: bool = False) -> tuple[int, ...]:
    """Ids of a text; with_special puts in front what the model wants there, such as BOS.

    Raises:
        LlmUnsupported: the server has no tokenizer to ask, or does not answer.
    """
    body = {
        "model": client.endpoint.model,
        "prompt": text,
        "content": text,
        "add_special_tokens": with_special,
        "add_special": with_special,
        "parse_special": False,
    }
    address = f"{client.endpoint.root_url}/tokenize"
    try:
        answer: Any = await client.raw.with_options(max_retries=2).post(
            address, body=body, cast_to=object
        )
    except (openai.OpenAIError, ValueError) as error:
        raise LlmUnsupported(
            "The server does not tell how its model cuts text into tokens.",
            hint="All-at-once simulation then needs prompts as text.",
        ) from error
    tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
    if not isinstance(tokens, list) or not all(isinstance(t, int) for t in tokens):
        raise LlmUnsupported(
            f"The server's answer to /tokenize holds no ids ({FailureCode.PARSE.value}).",
            hint="All-at-once simulation then needs prompts as text.",
        )
    return tuple(tokens)
