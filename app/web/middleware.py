"""What every request goes through: language, headers, ETags.

Forged requests and foreign hosts are refused before, by app.api.guard.
"""

import hashlib
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web import i18n

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LocaleMiddleware:
    """Sets the request's language: ``?lang=``, then the cookie, then Accept-Language."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = i18n.current.set(language_of(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            i18n.current.reset(token)


class SecurityHeadersMiddleware:
    """Adds the content security policy and its companions to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class EtagMiddleware:
    """Gives pages a weak ETag over their body, and answers 304 when the reader has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _EtagSender(send, Headers(scope=scope)))


class _EtagSender:
    """Holds back a whole HTML answer to hash it; anything else passes through."""

    def __init__(self, send: Send, request_headers: Headers) -> None:
        self._send = send
        self._known = request_headers.get("if-none-match", "")
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        etag = f'W/"{hashlib.sha256(self._body).hexdigest()[:24]}"'
        headers = MutableHeaders(scope=start)
        headers["ETag"] = etag
        headers.setdefault("Cache-Control", "private, no-cache")
        if etag in (tag.strip() for tag in self._known.split(",")):
            start["status"] = 304
            self._body.clear()
            del headers["content-length"]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": bytes(self._body)})


def language_of(scope: Scope) -> str:
    """The language that a request asks for."""
    headers = Headers(scope=scope)
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [None])[0]
    return i18n.choose_language(
        asked, _cookie(headers, "lang"), accept=headers.get("accept-language", "")
    )


def _is_page(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return start["status"] == 200 and headers.get("content-type", "").startswith("text/html")


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        jar = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return None
    return jar[name].value if name in jar else None
