"""Connections to one endpoint, a few in each channel.

The library's pool looks at every open connection on each request, which costs more than the
request itself when dozens are open; several small pools do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import openai

from core.llm.endpoint import Endpoint

_IN_ONE_CHANNEL = 8
_NO_KEY = "none"


@dataclass(slots=True)
class _Channel:
    client: openai.AsyncOpenAI
    busy: int = 0


class Channels:
    """The library's clients of one endpoint, made when they are needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tls = httpx2.create_ssl_context()  # loading the certificates is slow: once
        self._channels = [_Channel(self._make())]

    @property
    def first(self) -> openai.AsyncOpenAI:
        """The first client."""
        return self._channels[0].client

    @contextmanager
    def one(self) -> Iterator[openai.AsyncOpenAI]:
        """A client with a free place."""
        free = (channel for channel in self._channels if channel.busy < _IN_ONE_CHANNEL)
        channel = next(free, None)
        if channel is None:
            channel = _Channel(self._make())
            self._channels.append(channel)
        channel.busy += 1
        try:
            yield channel.client
        finally:
            channel.busy -= 1

    async def close(self) -> None:
        """Close every connection."""
        for channel in self._channels:
            await channel.client.close()

    def _make(self) -> openai.AsyncOpenAI:
        key = self._endpoint.api_key
        return openai.AsyncOpenAI(
            base_url=self._endpoint.base_url,
            api_key=key.get_secret_value() if key else _NO_KEY,
            timeout=self._endpoint.timeout_seconds,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpx2Client(verify=self._tls),
        )
