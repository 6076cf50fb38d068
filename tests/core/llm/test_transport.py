"""The short way of plain requests over HTTP/1.1, against a server that answers byte by byte."""

import asyncio
import gzip
import ssl
from contextlib import asynccontextmanager

import httpx2
import pytest

from core.llm.transport import SlimClient, slim_client

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: r1\r\n\r\n{}"


class Server:
    """Answers each request with the next bytes of its script; None hangs up."""

    def __init__(self, *script):
        self.script = list(script)
        self.heads = []
        self.bodies = []
        self.connections = 0
        self.writers = []

    async def close(self):
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in self.writers), return_exceptions=True)

    async def handle(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            while self.script:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                self.bodies.append(await reader.readexactly(int(length or 0)))
                answer = self.script.pop(0)
                for piece in answer if isinstance(answer, tuple) else (answer,):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*script):
    server = Server(*script)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = SlimClient(ssl.create_default_context())
    async with listening:
        async with client:
            yield server, client, f"http://127.0.0.1:{port}/v1"
        await asyncio.sleep(0.02)  # connections that were only just accepted
        await server.close()


def post(client, base_url, *, content=b'{"a": 1}', timeout=5.0):
    request = client.build_request(
        "POST",
        f"{base_url}/chat/completions",
        headers=[("content-type", "application/json")],
        content=content,
        timeout=timeout,
    )
    return client.send(request)


async def ask(*script, n=1, **settings):
    async with serving(*script) as (server, client, base_url):
        responses = [await post(client, base_url, **settings) for _ in range(n)]
        return server, responses


def test_a_request_is_sent_as_it_is_and_the_answer_read_to_its_end():
    server, (response,) = asyncio.run(ask(OK))
    assert server.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"content-type: application/json" in server.heads[0].lower()
    assert server.bodies == [b'{"a": 1}']
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["x-request-id"] == "r1"
    assert response.request.method == "POST"


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BODIES = {
    "in pieces": (b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 5\r\n\r\nhe", b"llo"),
    "chunked": (CHUNKED + b"2;x=y\r\nhe\r\n", b"3\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n"),
    "until the end": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "after a continue": b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "gzipped": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
    % (len(gzip.compress(b"hello")), gzip.compress(b"hello")),
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES)
def test_an_answer_is_read_however_it_comes(answer):
    async def work():
        async with serving(answer) as (_, client, base_url):
            return await post(client, base_url)

    assert asyncio.run(work()).content == b"hello"


def test_an_answer_without_a_body_is_empty():
    _, (response,) = asyncio.run(ask(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert response.content == b""


def test_a_connection_is_kept_for_the_next_request():
    server, responses = asyncio.run(ask(OK, OK, OK, n=3))
    assert len(responses) == 3
    assert server.connections == 1


def test_a_connection_that_the_server_closes_is_not_used_again():
    closing = OK.replace(b"x-request-id: r1", b"connection: close")
    server, _ = asyncio.run(ask(closing, OK, n=2))
    assert server.connections == 2


def test_requests_at_once_have_a_connection_each():
    async def work():
        async with serving(*([OK] * 8)) as (server, client, base_url):
            await asyncio.gather(*(post(client, base_url) for _ in range(8)))
            return server

    assert asyncio.run(work()).connections == 8


TROUBLES = {
    "broken off": (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhe", httpx2.RemoteProtocolError),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", httpx2.RemoteProtocolError),
    "a length that is no number": (
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        httpx2.RemoteProtocolError,
    ),
}


@pytest.mark.parametrize(("answer", "error"), TROUBLES.values(), ids=TROUBLES)
def test_a_broken_answer_is_an_error_of_the_connection(answer, error):
    async def work():
        async with serving((answer, None)) as (_, client, base_url):
            with pytest.raises(error):
                await post(client, base_url)

    asyncio.run(work())


def test_a_server_that_hangs_up_without_a_word_is_an_error():
    with pytest.raises(httpx2.RemoteProtocolError, match="broke off"):
        asyncio.run(ask(None))


def test_a_silent_server_is_a_time_out():
    async def silent(reader, writer):
        try:
            await reader.read()
        finally:
            writer.close()

    async def work():
        listening = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening, SlimClient(ssl.create_default_context()) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await post(client, f"http://127.0.0.1:{port}/v1", timeout=0.1)

    asyncio.run(work())


def test_nobody_listening_is_an_error_of_connecting():
    async def work():
        async with SlimClient(ssl.create_default_context()) as client:
            with pytest.raises(httpx2.ConnectError):
                await post(client, "http://127.0.0.1:9/v1")

    asyncio.run(work())


def test_a_header_with_a_line_break_is_not_sent():
    async def work():
        async with serving(OK) as (server, client, base_url):
            request = httpx2.Request(
                "POST", base_url, headers=[(b"x-key", b"a\r\nx-other: b")], content=b"{}"
            )
            with pytest.raises(httpx2.LocalProtocolError):
                await client.send(request)
            return server

    assert asyncio.run(work()).heads == []


def test_a_redirect_is_followed():
    async def work():
        async with serving(OK) as (target, _, elsewhere):
            moved = b"HTTP/1.1 307 Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n"
            moved %= f"{elsewhere}/chat/completions".encode()
            async with serving(moved, moved) as (_, client, base_url):
                response = await post(client, base_url)
            return target, response

    target, response = asyncio.run(work())
    assert response.status_code == 200
    assert target.bodies == [b'{"a": 1}']


def test_where_a_proxy_is_named_the_library_goes_its_own_way(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert isinstance(slim_client("http://models.example/v1"), SlimClient)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    assert not isinstance(slim_client("http://models.example/v1"), SlimClient)
    monkeypatch.setenv("NO_PROXY", "models.example")
    assert isinstance(slim_client("http://models.example/v1"), SlimClient)
