"""A Hugging Face hub on the loopback: serves folders as repositories, with its own headers."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import transformers.utils.hub
from typing_extensions import override

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What the hub serves.

    Attributes:
        repositories: folder of each repository's files.
        gated: repositories whose files are refused until the licence is accepted.
        requests: method and path of every request so far.
        broken: answer everything with 503.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    broken: bool = False


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """A running hub that huggingface_hub talks to, with a cache of its own."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    point_to(monkeypatch, endpoint, cache)
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def point_to(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """Let huggingface_hub use this address and cache."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(self.path.partition("?")[0]).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.broken:
            self._send(503, b"")
        elif path.startswith("api/models/"):
            self._answer_api(path.removeprefix("api/models/").split("/"))
        else:
            self._answer_file(path, with_body=with_body)

    def _answer_api(self, parts: list[str]) -> None:
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository not in self.hub.repositories:
            self._refuse(401, "RepoNotFound")
        elif rest[:1] == ["revision"] and rest[1] not in {"main", "v1", COMMIT}:
            self._refuse(404, "RevisionNotFound")
        elif rest[:1] == ["tree"]:
            self._refuse(404, "EntryNotFound")
        else:
            info = {"id": repository, "sha": COMMIT, "siblings": [], "tags": []}
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _answer_file(self, path: str, *, with_body: bool) -> None:
        repository, _, rest = path.partition("/resolve/")
        folder = self.hub.repositories.get(repository)
        file = None if folder is None else folder / rest.partition("/")[2]
        if folder is None or file is None:
            self._refuse(401, "RepoNotFound")
        elif repository in self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif not file.is_file():
            self._refuse(404, "EntryNotFound")
        else:
            content = file.read_bytes()
            headers = {
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Accept-Ranges": "bytes",
            }
            self._send(200, content, headers, with_body=with_body)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(content)
