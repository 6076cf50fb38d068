"""Token bytes as safe HTML; the one place that builds Markup.

The text content of what is built here is exactly the text of the tokens' bytes: UTF-8, with one
U+FFFD for each byte that belongs to no character, and U+FFFD for NUL, which HTML cannot hold.
Glyphs for line breaks, tabs and bytes are drawn by the stylesheet and are not part of the text.
A character split over several tokens stands in the token that completes it; the others show
their bytes.
"""

import html
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.domain.activation import ContextActivations
from core.domain.views import Vocabulary

Html = Markup  # for who names what is built here
LEVELS = 12
REPLACEMENT = "\ufffd"

# What has no visible shape of its own, or would disturb the text around it.
_GLYPHS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb]"
)
# Joiners and variation selectors shape their neighbours.
_KEPT = frozenset("\u200c\u200d\ufe0e\ufe0f")
_UNWRITABLE = re.compile("[\udc80-\udcff\0]")
_SPACE = '<b class="s"> </b>'


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one token: characters, or bytes that are not a whole character here.

    Attributes:
        text: what the piece adds to the text.
        raw: bytes to show as a chip; empty for plain characters.
    """

    text: str
    raw: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The tokens of a context that are shown: from start up to, not including, stop."""

    start: int
    stop: int


def level(value: float, scale: float) -> int:
    """Heat level 0–12 of an activation; 12 at or above the scale, negative below zero.

    >>> [level(value, 10.0) for value in (0.0, 0.01, 1.0, 10.0, -10.0)]
    [0, 1, 4, 12, -12]
    """
    if value == 0 or scale <= 0:
        return 0
    share = min(1.0, abs(value) / scale)
    steps = max(1, math.ceil(LEVELS * math.log10(1 + 9 * share) - 1e-9))
    return steps if value > 0 else -steps


def segments(tokens: Sequence[bytes]) -> list[tuple[Segment, ...]]:
    r"""What each token of a text shows.

    >>> [[(s.text, s.raw) for s in token] for token in segments([b"a\xe2", b"\x82\xac"])]
    [[('a', b''), ('', b'\xe2')], [('€', b'\x82\xac')]]
    """
    shown: list[tuple[Segment, ...]] = []
    broken: list[bytes] = []
    for token in tokens:
        if broken and not token:  # no bytes: the character may go on behind it
            broken.append(token)
            continue
        try:
            text = token.decode("utf-8")
        except UnicodeDecodeError:
            broken.append(token)
            continue
        if broken:
            shown.extend(_split(broken))
            broken = []
        shown.append((Segment(text),))
    shown.extend(_split(broken))
    return shown


def text_of(tokens: Sequence[bytes]) -> str:
    r"""The text of tokens, as it is copied from a page.

    >>> text_of([b"\xe2\x82", b"\xac!", b"\xff"]) == "€!" + REPLACEMENT
    True
    """
    text = b"".join(tokens).decode("utf-8", "surrogateescape")
    return _UNWRITABLE.sub(REPLACEMENT, text)


def token_bytes(vocabulary: Vocabulary, token_id: int) -> bytes:
    """Bytes of a token; an id outside the vocabulary shows as its number."""
    if 0 <= token_id < len(vocabulary.tokens):
        return vocabulary.tokens[token_id]
    return f"<{token_id}>".encode()


def token_label(vocabulary: Vocabulary, token_id: int) -> Markup:
    """A token shown alone, with marks for the spaces at its ends."""
    token = token_bytes(vocabulary, token_id)
    shown = segments([token])[0] if token else ()
    inner = "".join(_segment_html(segment) for segment in shown)
    inner = re.sub(r"^ +| +$", lambda found: _SPACE * len(found.group()), inner)
    return Markup(f'<code class="tok" dir="auto">{inner or _chip("∅", "")}</code>')  # noqa: S704


def token_title(vocabulary: Vocabulary, token_id: int) -> str:
    """A token as plain text for titles and aria labels: visible, on one line."""
    text = text_of([token_bytes(vocabulary, token_id)])
    for char, name in (("\n", "↵"), ("\t", "⇥"), ("\r", "␍")):
        text = text.replace(char, name)
    if text.startswith(" "):
        text = "␣" + text[1:]
    return _GLYPHS.sub("∅", text)


def text_html(text: str) -> Markup:
    """A text of people or models: isolated, on one line, with whatever is hidden in it visible.

    >>> str(text_html("a<b"))
    '<bdi class="said">a&lt;b</bdi>'
    """
    return Markup(f'<bdi class="said">{_text_html(text)}</bdi>')  # noqa: S704


def message_html(text: str) -> Markup:
    """A message to a model: every space at an end of a line, tab and line break can be seen.

    The text content is the message's own.
    """
    lines = []
    for line in text.split("\n"):
        fields = (_spaced(field) for field in line.split("\t"))
        lines.append('<b class="tab">\t</b>'.join(fields))
    return Markup('<b class="end">\n</b>'.join(lines))  # noqa: S704


def record_html(
    texts: Sequence[str], heats: Sequence[int | None], *, marked: Collection[int] = ()
) -> Markup:
    """Tokens as text, each with its heat level; None where there is none because it failed."""
    out = []
    for place, (text, heat) in enumerate(zip(texts, heats, strict=True)):
        names = ["no"] if heat is None else _classes(heat, peak=False, special=False).split()
        names += ["m"] if place in marked else []
        attribute = f' class="{" ".join(names)}"' if names else ""
        out.append(f"<i{attribute}>{_text_html(text)}</i>")
    return Markup("".join(out))  # noqa: S704  (every text in it went through _text_html)


def window_around(context: ContextActivations, width: int | None) -> Window:
    """The part of a context that holds its peak, two thirds before and one third after it."""
    length = len(context.token_ids)
    if width is None or width >= length:
        return Window(start=0, stop=length)
    start = max(0, min(context.peak - (2 * width) // 3, length - width))
    return Window(start=start, stop=start + width)


def preview_window(
    vocabulary: Vocabulary, context: ContextActivations, *, lead: int, width: int
) -> Window:
    """The part of a context for a line or two of a list: its peak is near the beginning.

    Args:
        vocabulary: of the model.
        context: what is shown.
        lead: characters before the peak, at most.
        width: tokens, at most.
    """
    start = context.peak
    while start > 0:
        token = token_bytes(vocabulary, int(context.token_ids[start - 1]))
        lead -= len(token.decode("utf-8", errors="replace"))
        if lead < 0:
            break
        start -= 1
    return Window(start=start, stop=min(start + width, len(context.token_ids)))


def context_html(
    vocabulary: Vocabulary, context: ContextActivations, *, scale: float, window: Window
) -> Markup:
    """A context's tokens, each in an element with its heat level."""
    parts = _token_parts(vocabulary, context, window)
    peak = context.peak if context.activations[context.peak] != 0 else -1
    out = []
    for position, shown, value in parts:
        special = int(context.token_ids[position]) in vocabulary.special_ids
        names = _classes(level(value, scale), peak=position == peak, special=special)
        tag = "bdi" if special else "i"
        attribute = f' class="{names}"' if names else ""
        out.append(f"<{tag}{attribute}>{shown}</{tag}>")
    return Markup("".join(out))  # noqa: S704  (every text in it went through _segment_html)


def preview_html(
    vocabulary: Vocabulary, context: ContextActivations, *, scale: float, window: Window
) -> Markup:
    """A context for lists: only active tokens have an element."""
    peak = context.peak
    out = []
    for position, shown, value in _token_parts(vocabulary, context, window):
        if int(context.token_ids[position]) in vocabulary.special_ids:
            out.append(f'<bdi class="q">{shown}</bdi>')
        elif value == 0:
            out.append(shown)
        else:
            names = _classes(level(value, scale), peak=position == peak, special=False)
            out.append(f'<i class="{names}">{shown}</i>')
    return Markup("".join(out))  # noqa: S704


def _token_parts(
    vocabulary: Vocabulary, context: ContextActivations, window: Window
) -> Iterator[tuple[int, str, float]]:
    tokens = [token_bytes(vocabulary, token_id) for token_id in context.token_ids.tolist()]
    shown = segments(tokens)
    values = context.activations.tolist()
    for position in range(window.start, window.stop):
        inner = "".join(_segment_html(segment) for segment in shown[position])
        yield position, inner, values[position]


def _classes(heat: int, *, peak: bool, special: bool) -> str:
    names = []
    if heat:
        names.append(f"h{heat}" if heat > 0 else f"n{-heat}")
    if peak:
        names.append("p")
    if special:
        names.append("q")
    return " ".join(names)


def _segment_html(segment: Segment) -> str:
    if segment.raw:
        return _chip(segment.raw.hex().upper(), segment.text)
    return _text_html(segment.text)


def _text_html(text: str) -> str:
    if text.isalnum():  # most tokens: nothing to escape, nothing to mark
        return text
    return _GLYPHS.sub(_glyph, html.escape(text, quote=False))


def _spaced(field: str) -> str:
    """A piece of a line with its spaces at both ends marked."""
    inner = field.strip(" ")
    if not inner:
        return _SPACE * len(field)
    before = len(field) - len(field.lstrip(" "))
    after = len(field) - len(field.rstrip(" "))
    return _SPACE * before + _text_html(inner) + _SPACE * after


def _glyph(found: re.Match[str]) -> str:
    char = found.group()
    if char in _KEPT:
        return char
    match char:
        case "\n":
            return '<b class="n">\n</b>'
        case "\t":
            return '<b class="t">\t</b>'
        case "\r":
            return _chip("␍", "&#13;", hidden=True)
        case "\0":
            return _chip("00", REPLACEMENT, hidden=True)
        case _ if char < " " or "\x7f" <= char <= "\x9f":
            return _chip(f"{ord(char):02X}", char, hidden=True)
        case _:
            return f'<b class="z">{char}</b>'


def _chip(shown: str, text: str, *, hidden: bool = False) -> str:
    kind = "x u" if hidden or text == REPLACEMENT else "x"
    return f'<b class="{kind}" data-x="{shown}">{text}</b>'


def _split(tokens: list[bytes]) -> list[tuple[Segment, ...]]:
    """Segments of tokens that are not UTF-8 on their own."""
    owner = [index for index, token in enumerate(tokens) for _ in token]
    parts: list[list[Segment]] = [[] for _ in tokens]
    start = 0
    for char in b"".join(tokens).decode("utf-8", "surrogateescape"):
        raw = char.encode("utf-8", "surrogateescape")
        stop = start + len(raw)
        text = REPLACEMENT if len(raw) == 1 and raw[0] >= 0x80 else char
        if text != REPLACEMENT and owner[start] == owner[stop - 1]:
            _append_text(parts[owner[start]], text)
        else:
            _append_bytes(parts, owner[start:stop], raw, text)
        start = stop
    return [tuple(part) for part in parts]


def _append_text(part: list[Segment], text: str) -> None:
    if part and not part[-1].raw:
        part[-1] = Segment(part[-1].text + text)
    else:
        part.append(Segment(text))


def _append_bytes(parts: list[list[Segment]], owners: list[int], raw: bytes, text: str) -> None:
    for index in dict.fromkeys(owners):
        own = bytes(byte for byte, owner in zip(raw, owners, strict=True) if owner == index)
        parts[index].append(Segment(text if index == owners[-1] else "", own))
