"""The client over real sockets: whatever a server sends or leaves out, proxies, limits, keeping."""

import asyncio
import gzip
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from core.domain.explanation import Answer, Failure, FailureCode
from core.domain.llm import ChatRequest, Message, Purpose
from core.domain.preference import Role
from core.llm.client import LlmClient
from core.llm.endpoint import Endpoint

BODY = b'{"choices": [{"message": {"content": "hello"}}]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-request-id: r1\r\n\r\n%b" % (len(BODY), BODY)


class Server:
    """Answers each request with the next bytes of its script; None hangs up."""

    def __init__(self, *script, delay=0.0, pause=0.0):
        self.script = list(script)
        self.delay = delay  # before an answer
        self.pause = pause  # between its pieces
        self.heads = []
        self.connections = 0
        self.under_way = self.most_under_way = 0
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
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.delay)
        self.under_way -= 1
        answer = self.script.pop(0)
        for piece in answer if isinstance(answer, tuple) else (answer,):
            if piece is None:
                raise ConnectionError
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(self.pause)


@asynccontextmanager
async def serving(*script, tls=None, **pace):
    server = Server(*script, **pace)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server, f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1"
        await asyncio.sleep(0.02)  # connections that were only just accepted
        await server.close()


def question(number=0):
    return ChatRequest(
        purpose=Purpose.OTHER,
        messages=(Message(role=Role.USER, content=f"question {number}"),),
        max_tokens=4,
    )


async def ask_at(base_url, *, n=1, at_once=False, **settings):
    endpoint = Endpoint(
        **{"base_url": base_url, "model": "m", "attempts": 1, "timeout_seconds": 5.0, **settings}
    )
    async with LlmClient(endpoint) as client:
        asked = [client.reply(question(i)) for i in range(n)]
        if at_once:
            return list(await asyncio.gather(*asked))
        return [await one for one in asked]


def ask(*script, n=1, **settings):
    async def work():
        async with serving(*script) as (server, base_url):
            return server, await ask_at(base_url, n=n, **settings)

    return asyncio.run(work())


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HALF = len(BODY) // 2
ANSWERS = {
    "at once": OK,
    "in pieces": (OK[:20], OK[20:60], OK[60:]),
    "chunked": (
        CHUNKED + b"%x;x=y\r\n%b\r\n" % (HALF, BODY[:HALF]),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) - HALF, BODY[HALF:]),
    ),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, None),
    "after a continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "gzipped": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
    % (len(gzip.compress(BODY)), gzip.compress(BODY)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_read_however_it_comes(answer):
    server, (outcome,) = ask(answer)
    assert isinstance(outcome, Answer)
    assert outcome.value.text == "hello"
    assert server.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_the_servers_name_of_a_request_is_kept():
    _, (outcome,) = ask(OK)
    assert outcome.value.request_id == "r1"


def test_a_connection_is_kept_for_the_next_request():
    server, outcomes = ask(OK, OK, OK, n=3)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.connections == 1


def test_a_connection_that_the_server_closes_is_not_used_again():
    closing = OK.replace(b"x-request-id: r1", b"connection: close")
    server, outcomes = ask((closing, None), OK, n=2)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.connections == 2


def test_there_are_as_many_connections_as_requests_may_be_under_way():
    async def work():
        async with serving(*([OK] * 12), delay=0.05) as (server, base_url):
            await ask_at(base_url, n=12, at_once=True, concurrency=4)
            return server

    server = asyncio.run(work())
    assert (server.connections, server.most_under_way) == (4, 4)


BROKEN = {
    "broken off": (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhe", None),
    "hung up without a word": (None,),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_a_trouble_of_the_connection(answer):
    _, (outcome,) = ask(answer)
    assert isinstance(outcome, Failure)
    assert outcome.code is FailureCode.CONNECTION


def test_nobody_listening_is_a_trouble_of_the_connection_and_no_time_out():
    (outcome,) = asyncio.run(ask_at("http://127.0.0.1:9/v1"))
    assert outcome.code is FailureCode.CONNECTION


def test_a_server_that_dribbles_is_a_time_out():
    async def work():
        dribble = (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n", *([b"h"] * 20))
        async with serving(dribble, pause=0.05) as (_, base_url):
            return await ask_at(base_url, timeout_seconds=0.2)

    (outcome,) = asyncio.run(work())
    assert outcome.code is FailureCode.TIMEOUT


def test_a_redirect_is_followed():
    async def work():
        async with serving(OK) as (target, elsewhere):
            moved = b"HTTP/1.1 307 Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n"
            moved %= f"{elsewhere}/chat/completions".encode()
            async with serving(moved) as (_, base_url):
                return target, await ask_at(base_url)

    target, (outcome,) = asyncio.run(work())
    assert isinstance(outcome, Answer)
    assert len(target.heads) == 1


def test_requests_go_by_the_environments_proxy_and_past_it_where_it_says_so(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    async def work():
        async with serving(OK, OK) as (proxy, address), serving(OK) as (server, base_url):
            monkeypatch.setenv("HTTP_PROXY", address.removesuffix("/v1"))
            (by_proxy,) = await ask_at("http://models.example/v1")
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            (past_it,) = await ask_at(base_url)
            return proxy, server, by_proxy, past_it

    proxy, server, by_proxy, past_it = asyncio.run(work())
    assert isinstance(by_proxy, Answer)
    assert isinstance(past_it, Answer)
    assert proxy.heads[0].startswith(b"POST http://models.example/v1/chat/completions ")
    assert (len(proxy.heads), len(server.heads)) == (1, 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)  # noqa: S603
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def work():
        async with serving(OK, tls=tls) as (server, base_url):
            (strange,) = await ask_at(base_url)
            assert server.heads == []
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            (known,) = await ask_at(base_url)
            return strange, known

    strange, known = asyncio.run(work())
    assert strange.code is FailureCode.CONNECTION
    assert isinstance(known, Answer)
