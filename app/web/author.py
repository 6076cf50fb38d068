"""The name that somebody writes under: typed once, kept in a cookie."""

from urllib.parse import quote, unquote

from fastapi import Request
from fastapi.responses import Response

AUTHOR_COOKIE = "author"
YEAR_SECONDS = 365 * 24 * 3600
_MOST = 80


def author_of(request: Request, typed: str | None = None) -> str:
    """What was typed now, else what is kept."""
    kept = unquote(request.cookies.get(AUTHOR_COOKIE, ""), errors="replace")
    return kept[:_MOST] if typed is None else typed


def keep_author(response: Response, author: str) -> None:
    """Keep the name that was just typed; an empty one changes nothing."""
    if author.strip():
        response.set_cookie(
            AUTHOR_COOKIE,
            quote(author.strip()[:_MOST], safe=" "),
            max_age=YEAR_SECONDS,
            httponly=True,
            samesite="lax",
        )
