"""House rules of the templates: no inline code, no htmx 2, nothing that fails silently."""

import re
import sys
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
RULES = {
    r"\sstyle=": "no style attributes: the content security policy forbids them",
    r"<style\b": "no style elements: write into static/css/app.css",
    r"<script(?![^>]*\ssrc=)": "no inline scripts: write into static/js",
    r"\son[a-z]+=": "no inline event handlers: listen in static/js",
    r"\shx-on\b": "no hx-on: it needs unsafe-eval",
    r"=[\"'](js|javascript):": "no code in values: it needs unsafe-eval",
    r"hx-trigger=\"[^\"]*\[": "no filters in triggers: they need unsafe-eval",
    r"\|\s*safe\b": "no |safe: only app.web.tokens builds Markup",
    r"\{%\s*autoescape\s+false": "no switching autoescape off",
    r"\shx-(ext|vars|prompt|disinherit|disabled-elt|request|ws|history)\b": "an htmx 2 attribute",
    r"\ssse-(connect|swap)\b": "an htmx 2 attribute: write hx-sse:connect",
    r"(href|src|action|hx-\w+)=\"(https?:)?//": "no addresses outside this site",
}
REQUEST = re.compile(r"<[a-z-]+\b[^<>]*?\shx-(get|post|put|patch|delete)=[^<>]*>", re.DOTALL)
EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


def faults(text: str) -> list[str]:
    """What a template breaks, one sentence each with its line.

    >>> faults('<p style="x">')
    ['1: no style attributes: the content security policy forbids them']
    """
    found = [
        (place.start(), reason)
        for pattern, reason in RULES.items()
        for place in re.finditer(pattern, text)
    ]
    plain = EXPRESSION.sub(lambda match: "_" * len(match.group()), text)
    found += [
        (place.start(), f"a request without {needed[:-1]}")
        for place in REQUEST.finditer(plain)
        for needed in ("hx-target=", "hx-swap=")
        if needed not in place.group()
    ]
    return [f"{text.count(chr(10), 0, at) + 1}: {reason}" for at, reason in sorted(found)]


def main() -> None:
    """Look at every template; the exit code is 1 when anything is wrong."""
    lines = [
        f"{path.relative_to(TEMPLATES.parent)}:{fault}"
        for path in sorted(TEMPLATES.rglob("*.html"))
        for fault in faults(path.read_text(encoding="utf-8"))
    ]
    sys.exit("\n".join(lines) or 0)


if __name__ == "__main__":
    main()
