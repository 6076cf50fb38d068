"""HTTP/1.1 for many small requests to one server at once, under the OpenAI library.

The library's own stack costs more than a millisecond of processor a request, most of it in what
these requests never use: redirects, cookies, authentication flows, pools that look at every
connection. At 64 requests under way that alone keeps a fast server waiting. What is unusual (a
stream, a redirect, a form) goes the library's way; proxies do too, see ``slim_client``.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai

_IDLE_SECONDS = 4.0  # servers close idle connections, many after five seconds
_HEAD_BYTES = 256 * 1024
_BIG_BYTES = 64 * 1024
_HAPPY_EYEBALLS_SECONDS = 0.25
_EMPTY_STATUSES = frozenset({204, 304})
_OK = 200


@dataclass(slots=True)
class _Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        closed = self.writer.is_closing() or self.reader.at_eof()
        return not closed and time.monotonic() - self.idle_since < _IDLE_SECONDS


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep: bool


class KeepAliveTransport(httpx2.AsyncBaseTransport):
    """Connections that are kept; as many as there are requests under way."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[tuple[str, str, int], list[_Line]] = {}
        self._closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The whole answer to a request.

        Raises:
            httpx2.TransportError: the server cannot be reached, is too slow, or breaks off.
        """
        data = _written(request)
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        timeouts = request.extensions.get("timeout", {})
        idle = self._idle.setdefault(origin, [])
        line = _newest_usable(idle) or await self._open(origin, request, timeouts)
        try:
            async with asyncio.timeout(timeouts.get("read")):
                answer = await _exchange(line, data)
        except BaseException as error:
            line.writer.transport.abort()
            known = _named(error, request)
            if known is None:
                raise
            raise known from error
        if answer.keep and not self._closed:
            line.idle_since = time.monotonic()
            idle.append(line)
        else:
            line.writer.close()
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

    async def aclose(self) -> None:
        """Close every connection that is not in use, and the others when their answer is there."""
        self._closed = True
        lines = [line for idle in self._idle.values() for line in idle]
        self._idle.clear()
        for line in lines:
            line.writer.close()
        await asyncio.gather(*(line.writer.wait_closed() for line in lines), return_exceptions=True)

    async def _open(
        self, origin: tuple[str, str, int], request: httpx2.Request, timeouts: Mapping[str, Any]
    ) -> _Line:
        scheme, host, port = origin
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                reader, writer = await asyncio.open_connection(
                    host,
                    port,
                    limit=_HEAD_BYTES,
                    ssl=self._tls if scheme == "https" else None,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("Nobody answered in time.", request=request) from error
        except OSError as error:
            raise httpx2.ConnectError(f"No connection: {error}", request=request) from error
        plain = writer.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return _Line(reader, writer)


class SlimClient(httpx2.AsyncClient):
    """The library's HTTP client with a short way for plain requests."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, follow_redirects=True)
        self._plain = KeepAliveTransport(tls)
        self._urls: dict[str, httpx2.URL] = {}

    def build_request(self, method: str, url: httpx2.URL | str, **settings: Any) -> httpx2.Request:
        """A request as it is, without what a client may add; unusual ones the library's way."""
        content, unusual = settings.get("content"), settings.keys() - _KNOWN_SETTINGS
        if not isinstance(content, bytes) or any(settings[name] for name in unusual):
            return super().build_request(method, url, **settings)
        address = self._urls.get(str(url))
        if address is None:
            address = self._urls.setdefault(str(url), httpx2.URL(url))
        timeout = settings.get("timeout", self.timeout)
        known = timeout if isinstance(timeout, httpx2.Timeout) else httpx2.Timeout(timeout)
        return httpx2.Request(
            method,
            address,
            headers=settings.get("headers"),
            content=content,
            extensions={"timeout": known.as_dict()},
        )

    async def send(self, request: httpx2.Request, **settings: Any) -> httpx2.Response:
        """The answer, read to its end; streams and redirects the library's way."""
        if settings.get("stream"):
            return await super().send(request, **settings)
        response = await self._plain.handle_async_request(request)
        if response.has_redirect_location:
            return await super().send(request, **settings)
        response.request = request
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._plain.aclose()
        await super().aclose()

    async def __aexit__(self, *error: Any) -> None:
        await self._plain.aclose()
        await super().__aexit__(*error)


_KNOWN_SETTINGS = frozenset({"content", "headers", "timeout"})


def slim_client(base_url: str) -> httpx2.AsyncClient:
    """A client for one address; the library's own where the environment names a proxy for it."""
    url = httpx2.URL(base_url)
    tls = httpx2.create_ssl_context()
    proxied = {url.scheme, "all"} & getproxies().keys() and not proxy_bypass(url.host)
    return openai.DefaultAsyncHttpx2Client(verify=tls) if proxied else SlimClient(tls)


def _newest_usable(idle: list[_Line]) -> _Line | None:
    while idle:
        line = idle.pop()
        if line.usable:
            return line
        line.writer.close()
    return None


def _named(error: BaseException, request: httpx2.Request) -> httpx2.TransportError | None:
    """A trouble of the connection as the library knows it; None for anything else."""
    match error:
        case TimeoutError():
            return httpx2.ReadTimeout("The answer did not come in time.", request=request)
        case OSError():
            return httpx2.ReadError(f"The connection broke: {error}", request=request)
        case EOFError():
            return httpx2.RemoteProtocolError("The server broke off.", request=request)
        case ValueError() | asyncio.LimitOverrunError():
            return httpx2.RemoteProtocolError("The answer is not HTTP.", request=request)
        case _:
            return None


async def _exchange(line: _Line, data: bytes) -> _Answer:
    """Send a request and read the answer to its end.

    Raises:
        OSError, EOFError, ValueError, asyncio.LimitOverrunError: the connection or the server
            failed.
    """
    line.writer.write(data)
    if len(data) > _BIG_BYTES:
        await line.writer.drain()
    version, status, headers = await _read_head(line.reader)
    while status < _OK:  # "continue" and the like come before the answer
        version, status, headers = await _read_head(line.reader)
    known = {name.lower(): value for name, value in headers}
    body, ends = await _read_body(line.reader, status, known)
    wish = known.get(b"connection", b"").lower()
    keep = ends and wish != b"close" and (version == b"HTTP/1.1" or wish == b"keep-alive")
    return _Answer(status, headers, body, keep)


def _written(request: httpx2.Request) -> bytes:
    lines = [
        b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path),
        *(b"%s: %s" % pair for pair in request.headers.raw),
    ]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise httpx2.LocalProtocolError("A header holds a line break.", request=request)
    return head + b"\r\n\r\n" + request.content


async def _read_head(
    reader: asyncio.StreamReader,
) -> tuple[bytes, int, list[tuple[bytes, bytes]]]:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("no status line")
    pairs = (line.partition(b":") for line in lines)
    return version, int(rest[:3]), [(name, value.strip()) for name, _, value in pairs]


async def _read_body(
    reader: asyncio.StreamReader, status: int, headers: Mapping[bytes, bytes]
) -> tuple[bytes, bool]:
    """The body, and whether its end was told, so that the connection may go on."""
    if status in _EMPTY_STATUSES:
        return b"", True
    if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        return await _read_chunks(reader), True
    length = headers.get(b"content-length")
    if length is None:
        return await reader.read(), False
    return await reader.readexactly(int(length)), True


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size == 0:
            break
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(chunks)
