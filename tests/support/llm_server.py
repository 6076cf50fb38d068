"""A small OpenAI-compatible server on loopback, for a scripted model and scripted faults.

Plain asyncio, no web framework. It counts every request, so that a test can tell what was paid
twice. Faults are taken from a list, one a request, before the model is asked.
"""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Model(Protocol):
    """What the server serves: one function a path, JSON in, JSON out."""

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def tokenise(self, body: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: HTTP status with an error body.
        body: bytes sent as they are instead of the answer, with status 200.
        drop: close the connection, after `body` if there is one and in the middle of it.
        delay: seconds of silence before anything is sent.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    drop: bool = False
    delay: float = 0.0


@dataclass(kw_only=True)
class Log:
    """Every request that arrived, in order."""

    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def count(self, ending: str) -> int:
        return sum(path.endswith(ending) for path in self.paths)


class LlmServer:
    """The server; start it with `serving`."""

    def __init__(
        self,
        model: Model,
        *,
        faults: Sequence[Fault | None] = (),
        latency: float = 0.0,
        without: Sequence[str] = (),
        on_request: Callable[[int], Fault | None] | None = None,
        context_limit: int | None = None,
    ) -> None:
        self.model = model
        self.faults = list(faults)
        self.latency = latency
        self.without = tuple(without)  # paths that this server does not have
        self.on_request = on_request
        self.context_limit = context_limit
        self.log = Log()
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
        raw = await reader.readexactly(int(headers.get("content-length") or 0))
        body = json.loads(raw) if raw else {}
        counted = not path.endswith(("/models", "/tokenize"))
        fault = self._fault() if counted else None
        self._arrive(path, body, headers)
        try:
            await asyncio.sleep((fault.delay if fault else 0.0) + self.latency)
            return await self._answer(path, body, fault, writer)
        finally:
            self.log.under_way -= 1

    def _fault(self) -> Fault | None:
        if self.on_request is not None:
            return self.on_request(len(self.log.paths))
        return self.faults.pop(0) if self.faults else None

    def _arrive(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.log.paths.append(path)
        self.log.bodies.append(body)
        self.log.headers.append(headers)
        self.log.under_way += 1
        self.log.most_under_way = max(self.log.most_under_way, self.log.under_way)

    async def _answer(
        self, path: str, body: dict[str, Any], fault: Fault | None, writer: asyncio.StreamWriter
    ) -> bool:
        if fault is not None and fault.drop:
            if fault.body is not None:
                length = len(fault.body) * 2
                writer.write(_head(200, length, {}) + fault.body)
                await writer.drain()
            return False
        if fault is not None and fault.status:
            answer = json.dumps({"error": dict(fault.error) or {"message": "scripted"}}).encode()
            writer.write(_head(fault.status, len(answer), fault.headers) + answer)
        elif fault is not None and fault.body is not None:
            writer.write(_head(200, len(fault.body), fault.headers) + fault.body)
        else:
            status, answer = self._model_answer(path, body)
            writer.write(_head(status, len(answer), {}) + answer)
        await writer.drain()
        return True

    def _model_answer(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        if any(path.endswith(missing) for missing in self.without):
            return 404, b'{"error": {"message": "not found"}}'
        if path.endswith("/chat/completions"):
            answer = self.model.chat(body)
        elif path.endswith("/completions"):
            answer = self.model.complete(body)
        elif path.endswith("/tokenize"):
            answer = self.model.tokenise(body)
        elif path.endswith("/generate"):
            generate = getattr(self.model, "generate", None)
            if generate is None:
                return 404, b'{"detail": "Not Found"}'
            answer = generate(body)
        elif path.endswith("/embeddings"):
            embed = getattr(self.model, "embed", None)
            if embed is None:
                return 404, b'{"error": {"message": "this model embeds nothing"}}'
            answer = embed(body)
        else:
            entry = {"id": "scripted", "object": "model", "max_model_len": self.context_limit}
            answer = {"object": "list", "data": [entry]}
        return 200, json.dumps(answer).encode()


@contextmanager
def serving(server: LlmServer):
    """The server listening on a free port of loopback, in a thread with its own event loop."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        listening.close()
        await asyncio.sleep(0)  # let handlers begin that were just made: they close their writers
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def work():
        loop.run_until_complete(run())
        _drain(loop)  # here, since another loop may run in the test's own thread

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.wait(timeout=10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)


def _drain(loop: asyncio.AbstractEventLoop) -> None:
    async def finish() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    loop.run_until_complete(finish())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _head(status: int, length: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Scripted",
        "content-type: application/json",
        f"content-length: {length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chat_answer(
    text: str, *, finish: str = "stop", tokens=(), refusal: str | None = None
) -> dict[str, Any]:
    """A chat completion; tokens are pairs (text, {alternative: probability})."""
    content = [
        {
            "token": token,
            "logprob": math.log(top.get(token, 1e-9)),
            "bytes": None,
            "top_logprobs": [
                {"token": t, "logprob": math.log(p), "bytes": None} for t, p in top.items()
            ],
        }
        for token, top in tokens
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, "refusal": refusal},
                "logprobs": {"content": content} if content else None,
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
