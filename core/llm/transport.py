"""The HTTP client under the OpenAI library: aiohttp's connections, by the library's own adapter.

The library's default stack spends half as much processor again a request, which at 64 requests
under way keeps a fast server waiting; ``make bench-llm`` measures the rate.
"""

from collections.abc import Iterator

import aiohttp
import httpx2
import openai

from core.llm.endpoint import Endpoint

_IDLE_SECONDS = 4.0  # servers close idle connections, many after five seconds


def http_client(endpoint: Endpoint) -> httpx2.AsyncClient:
    """A client with as many connections as requests may be under way.

    Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); certificates are
    checked against the system's store.
    """
    limits = httpx2.Limits(
        max_connections=endpoint.concurrency,
        max_keepalive_connections=endpoint.concurrency,
        keepalive_expiry=_IDLE_SECONDS,
    )
    return openai.DefaultAioHttpClient(limits=limits)


def was_refused(error: BaseException) -> bool:
    """Whether a connection failed behind an error that reads like a time-out.

    The adapter names every trouble of a connection a time-out of connecting; what aiohttp raised
    says which it was.
    """
    return any(
        isinstance(cause, aiohttp.ClientError) and not isinstance(cause, TimeoutError)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__
