"""What every request passes before a route sees it: its host, its origin, and its number.

Without accounts, what protects a server on this computer is that foreign web pages cannot talk to
it. Two rules see to that. A page of another site may not send anything that changes state: browsers
say where a request comes from, in Sec-Fetch-Site or Origin. And a name that an attacker lets point
to 127.0.0.1 is refused, since the Host header still bears it (DNS rebinding). Programs other than
browsers send neither header and are not hindered.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from types import MappingProxyType

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_response
from core.log import request_id

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PORT = re.compile(r":[0-9]*$")


def allowed_hosts(host: str, configured: Iterable[str] = ()) -> frozenset[str] | None:
    """Names that a Host header may bear when the server listens on a host; None means any.

    >>> sorted(allowed_hosts("127.0.0.1") or ())
    ['127.0.0.1', '[::1]', 'localhost']
    >>> allowed_hosts("0.0.0.0") is None
    True
    """
    named = frozenset(name.lower() for name in configured)
    if _is_loopback(host):
        return _LOOPBACK_NAMES | named
    return named | _LOOPBACK_NAMES if named else None


class RequestGuard:
    """Refuses foreign hosts, foreign origins and bodies that are too large; numbers requests.

    Args:
        app: what comes behind it.
        allowed: names that a Host header may bear; None means any.
        max_body_bytes: of a request's body.
        uploads: larger limits of addresses that take files, by path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: frozenset[str] | None,
        max_body_bytes: int,
        uploads: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._max_body_bytes = max_body_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 403, 413 or 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        number = _request_id(headers)
        scope["request_id"] = number
        token = request_id.set(number)
        try:
            refusal = self._refusal(Request(scope), headers)
            counted = _counted(receive, self._limit(scope["path"]))
            await (refusal or self._app)(scope, counted, _with_id(send, number))
        finally:
            request_id.reset(token)

    def _refusal(self, request: Request, headers: Headers) -> ASGIApp | None:
        host = headers.get("host", "")
        if self._allowed is not None and _PORT.sub("", host).lower() not in self._allowed:
            return error_response(
                request,
                HTTPStatus.MISDIRECTED_REQUEST,
                code="host_unknown",
                message="This server does not answer to that name.",
                hint="Use http://localhost or http://127.0.0.1 with its port.",
            )
        if request.method not in _SAFE_METHODS and not _same_origin(headers, host):
            return error_response(
                request,
                HTTPStatus.FORBIDDEN,
                code="cross_site",
                message="A page of another site may not change anything here.",
                hint="Send the request from this site, or from a program.",
            )
        length = headers.get("content-length", "0")
        limit = self._limit(request.url.path)
        if length.isdecimal() and int(length) > limit:
            return error_response(
                request,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                code="too_large",
                message="The request is too large.",
                hint=f"Send at most {limit:,} bytes at once.",
            )
        return None

    def _limit(self, path: str) -> int:
        return self._uploads.get(path, self._max_body_bytes)


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request comes from this site's pages or from no browser at all."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _request_id(headers: Headers) -> str:
    """The caller's number if it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]


def _counted(receive: Receive, limit: int) -> Receive:
    """Receives a body that does not tell its length up to a limit; beyond it, answers 413."""
    n_bytes = 0

    async def receive_counted() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive_counted


def _with_id(send: Send, number: str) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Request-ID"] = number
        await send(message)

    return send_with_id
