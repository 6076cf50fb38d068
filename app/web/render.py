"""Templates to answers; the one place that knows htmx's headers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.web import (
    charts,
    curves,
    explain_words,
    explanation_rows,
    i18n,
    preference_words,
    said,
    tokens,
    words,
)

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"
THEMES = ("auto", "light", "dark")
_PASSING = {"lang", "tagged"}  # what is said once, and is no part of the page's address
VARY = "HX-Request-Type, Cookie, Accept-Language"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Where a page is: what links and the frame of every page are made of.

    Attributes:
        query: the query parameters in order.
        section: the part of the site that the navigation marks.
        n_tagged: features that a form has just tagged; None unless the page comes after one.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    theme: str
    lang: str
    section: str
    n_tagged: int | None = None

    def link(self, **changes: object) -> str:
        """This page with query parameters changed; None or an empty text takes one away."""
        kept = [(name, value) for name, value in self.query if name not in changes]
        added = [(name, str(value)) for name, value in changes.items() if value not in (None, "")]
        return with_query(self.path, kept + added)

    @property
    def url(self) -> str:
        """Path and query of this page."""
        return with_query(self.path, list(self.query))


def with_query(path: str, pairs: list[tuple[str, str]]) -> str:
    """A path with query parameters.

    >>> with_query("/jobs", [("state", "failed")]), with_query("/jobs", [])
    ('/jobs?state=failed', '/jobs')
    """
    return f"{path}?{urlencode(pairs)}" if pairs else path


@cache
def static_hash() -> str:
    """A short hash over the whole static tree; it stands in every static address."""
    digest = hashlib.sha256()
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        digest.update(path.relative_to(STATIC).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def static(path: str) -> str:
    """Address of a static file."""
    return f"/static/{static_hash()}/{path}"


@cache
def vendored() -> dict[str, str]:
    """Folder of each vendored package by its name."""
    manifest = json.loads((STATIC / "vendor" / "MANIFEST.json").read_text(encoding="utf-8"))
    return {entry["name"]: f"{entry['name']}-{entry['version']}" for entry in manifest["packages"]}


def vendor(name: str, file: str) -> str:
    """Address of a file of a vendored package."""
    return static(f"vendor/{vendored()[name]}/{file}")


@cache
def environment() -> Environment:
    """The template environment: autoescaped, strict about undefined names, translated."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    env.install_gettext_callables(i18n.gettext, i18n.ngettext, newstyle=True)  # type: ignore[attr-defined]  # added by the extension
    env.filters.update(
        number=i18n.number,
        significant=i18n.significant,
        percent=i18n.percent,
        compact=i18n.compact,
        moment=i18n.moment,
        duration=i18n.duration,
        size=i18n.size,
        said=said.said,
        log_text=said.log_text,
        told=said.told,
        json=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    )
    env.globals.update(
        static=static,
        vendor=vendor,
        html_lang=i18n.html_lang,
        languages=i18n.LANGUAGES,
        tokens=tokens,
        charts=charts,
        curves=curves,
        words=words,
        preference_words=preference_words,
        explain_words=explain_words,
        explanation_rows=explanation_rows,
    )
    return env


def is_partial(request: Request) -> bool:
    """Whether htmx asked for a fragment; never true for boosted or history requests."""
    return request.headers.get("HX-Request-Type") == "partial"


def here(request: Request, *, section: str = "") -> Here:
    """Where the request's page is."""
    theme = request.cookies.get("theme", "auto")
    tagged = request.query_params.get("tagged", "")
    return Here(
        path=request.url.path,
        query=tuple((n, v) for n, v in request.query_params.multi_items() if n not in _PASSING),
        theme=theme if theme in THEMES else "auto",
        lang=i18n.current.get(),
        section=section,
        n_tagged=int(tagged)
        if tagged.isascii() and tagged.isdigit() and len(tagged) < 10
        else None,
    )


def fragment(name: str, context: Mapping[str, Any]) -> str:
    """A template as text."""
    return environment().get_template(name).render(context)


def page(
    request: Request,
    name: str,
    *,
    partial: str | None = None,
    status: int = 200,
    section: str = "",
    **context: Any,
) -> Response:
    """A whole page, or only its fragment where htmx asked for one."""
    chosen = partial if partial is not None and is_partial(request) else name
    body = fragment(chosen, {"here": here(request, section=section), **context})
    return HTMLResponse(body, status, headers={"Vary": VARY})


def part(
    request: Request,
    name: str,
    *,
    instead: str,
    toast: str | None = None,
    status: int = 200,
    **context: Any,
) -> Response:
    """The answer to a change: a fragment and a toast for htmx, else a redirect to a page."""
    if not is_partial(request):
        return RedirectResponse(instead, 303)
    place = here(request)
    body = fragment(name, {"here": place, **context})
    if toast is not None:
        body += fragment("_toast.html", {"here": place, "toast": toast})
    return HTMLResponse(body, status, headers={"Vary": VARY})


def told(request: Request, toast: str, *, instead: str) -> Response:
    """The answer to a change that the page's stream will show: a toast for htmx, else a redirect.

    No fragment goes with it: one that is put in after a newer one of the stream would show for
    ever what was true before.
    """
    if not is_partial(request):
        return RedirectResponse(instead, 303)
    body = fragment("_toast.html", {"here": here(request), "toast": toast})
    return HTMLResponse(body, headers={"Vary": VARY})


def redirect(request: Request, url: str) -> Response:
    """A move to another page, with or without htmx."""
    if is_partial(request):
        return Response(status_code=204, headers={"HX-Redirect": url})
    return RedirectResponse(url, 303)


def local_path(target: str, *, default: str = "/") -> str:
    """An address inside this site, or the default; keeps redirects from leaving it.

    >>> local_path("/jobs?x=1"), local_path("//evil.example"), local_path("https://evil.example/")
    ('/jobs?x=1', '/', '/')
    """
    parts = urlsplit(target)
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if safe and not parts.netloc and not parts.scheme else default
