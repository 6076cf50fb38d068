"""Wikipedia articles from an XML dump, as plain prose."""

import html
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from core.errors import CorpusUnreadable

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_EMPTY_REF = re.compile(r"<ref[^<>]*/>", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"<(ref|math|gallery|timeline|source|score|imagemap)\b[^<>]*>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_FILE_LINK = re.compile(
    r"\[\[(?:File|Image|Category|[a-z]{2,3}(?:-[a-z]+)?):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]"
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_URL = re.compile(r"\[(?:https?:)?//\S+(?:\s+([^\]]*))?\]")
_TAG = re.compile(r"<[^<>]{1,200}>")
_HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*\1\s*$", re.MULTILINE)
_QUOTES = re.compile(r"'{2,5}")
_MARK = re.compile(r"^[*#:;]+\s*", re.MULTILINE)
_BLANK = re.compile(r"\n\s*\n+")
_TAIL = re.compile(
    r"^==\s*(?:References|External links|See also|Further reading|Notes|Bibliography|Sources"
    r"|Footnotes|Citations)\s*==\s*$",
    re.MULTILINE | re.IGNORECASE,
)


def read_articles(dump: bytes) -> Iterator[tuple[str, str]]:
    """Title and plain text of each article of a MediaWiki dump; redirects are left out.

    Raises:
        CorpusUnreadable: the dump is not XML.
    """
    try:
        root = ElementTree.fromstring(dump)  # noqa: S314 - a file that was checked by hash
    except ElementTree.ParseError as error:
        raise CorpusUnreadable(f"The Wikipedia dump is not XML: {error}.") from error
    for page in root.iterfind("{*}page"):
        title = page.findtext("{*}title", "")
        source = page.findtext("{*}revision/{*}text") or ""
        if page.find("{*}redirect") is None and not source.lower().startswith("#redirect"):
            yield title, strip_wikitext(source)


def strip_wikitext(source: str) -> str:
    r"""Prose of a page: links by their words, no templates, tables, references or markup.

    >>> strip_wikitext("'''Algae''' are [[plant|green]]{{cite|x={{y}}}}.<ref>z</ref>\n== Use ==")
    'Algae are green.\n\nUse'
    """
    text = _COMMENT.sub("", source)
    tail = _TAIL.search(text)
    text = text[: tail.start()] if tail else text
    text = _BLOCK_TAG.sub("", _EMPTY_REF.sub("", text))
    for pattern in (_TEMPLATE, _TABLE):
        text = _remove_nested(pattern, text)
    text = _LINK.sub(r"\1", _FILE_LINK.sub("", text))
    text = _URL.sub(lambda match: match[1] or "", text)
    text = _TAG.sub("", text)
    text = _HEADING.sub(r"\n\n\2\n\n", text)
    text = _MARK.sub("", _QUOTES.sub("", text))
    return _BLANK.sub("\n\n", html.unescape(text)).strip()


def _remove_nested(pattern: re.Pattern[str], text: str) -> str:
    while True:
        text, n_removed = pattern.subn("", text)
        if n_removed == 0:
            return text
