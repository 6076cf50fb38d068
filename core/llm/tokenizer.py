"""The tokenizer of the model behind an endpoint, asked over ``POST /tokenize``.

vLLM and llama.cpp both have it, under different names for the same things; one body fits both.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import openai

from core.domain.explanation import FailureCode
from core.errors import LlmUnsupported
from core.llm.client import LlmClient
from core.llm.endpoint import Endpoint
from core.recent import Recent

_MOST_PIECES = 50_000
_MOST_MODELS = 8
_SHORT = 100  # characters; longer pieces hold an explanation and hardly ever come again
_MOST_LONG = 256
_SAMPLE = "10\tunknown\n"  # asked for anew by every table, to see that the model is the same

_Ids = tuple[int, ...]
_remembered: Recent[tuple[str, str], dict[str, _Ids]] = Recent(_MOST_MODELS)


class TokenTable(Mapping[str, tuple[int, ...]]):
    """Token ids of pieces of text, each tokenised alone and asked for once.

    Texts of tokens come again and again, so that short pieces are remembered for the process, by
    address and model, and shared by all tables of that model.
    """

    def __init__(self, client: LlmClient) -> None:
        self._client = client
        self._short = _ids_of(client.endpoint)
        self._long: dict[str, _Ids] = {}
        self._asked: dict[str, asyncio.Task[_Ids]] = {}
        self._places = asyncio.Semaphore(client.endpoint.concurrency)
        self._checked: asyncio.Task[None] | None = None

    def __getitem__(self, piece: str) -> tuple[int, ...]:
        return self._kept(piece)[piece]

    def __iter__(self) -> Iterator[str]:
        return chain(self._short, self._long)

    def __len__(self) -> int:
        return len(self._short) + len(self._long)

    async def learn(self, pieces: Iterable[str]) -> None:
        """Ask for the ids of the pieces that are not known yet.

        Raises:
            LlmUnsupported: the server has no tokenizer to ask.
        """
        if self._checked is None:
            self._checked = asyncio.create_task(self._check())
        await asyncio.shield(self._checked)
        wanted = tuple(dict.fromkeys(pieces))
        while unknown := [piece for piece in wanted if piece not in self]:
            await asyncio.gather(*(self._learn_one(piece) for piece in unknown))

    async def _learn_one(self, piece: str) -> None:
        """Ask once, however many want to know."""
        if piece not in self._asked:
            self._asked[piece] = asyncio.create_task(self._ask(piece))
        try:
            ids = await asyncio.shield(self._asked[piece])
        finally:
            self._asked.pop(piece, None)
        kept = self._kept(piece)
        kept[piece] = ids
        most = _MOST_PIECES if kept is self._short else _MOST_LONG
        while len(kept) > most:
            del kept[next(iter(kept))]

    async def _ask(self, piece: str) -> _Ids:
        async with self._places:
            return await tokenise(self._client, piece)

    async def _check(self) -> None:
        """Forget all if another model answers by the same name."""
        now = await self._ask(_SAMPLE)
        if self._short.get(_SAMPLE) != now:
            self._short.clear()
        self._short[_SAMPLE] = now

    def _kept(self, piece: str) -> dict[str, _Ids]:
        return self._short if len(piece) <= _SHORT else self._long


def _ids_of(endpoint: Endpoint) -> dict[str, _Ids]:
    """What is remembered of a model; the one that was used least lately makes room."""
    return _remembered.get((endpoint.base_url.rstrip("/"), endpoint.model), dict)


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
