r"""Untrusted text made harmless: what a token looks like inside a prompt or a raw view.

Text under study may hold tabs, line breaks, invisible characters, our own markers and the
special tokens of chat models. Each is shown by a visible stand-in, so that a token never leaves
its row and a server never reads it as a turn of the conversation.

==========================  =======================================
in the text                 shown as
==========================  =======================================
tab                         ``⇥``
line feed                   ``⏎``
carriage return             ``␍``
other control, zero-width,  ``⟨U+200B⟩``: the character's code point
bidi, private, unassigned
part of a character         ``\xNN``: the byte
``<start>``, ``<|im_end|>``  ``<·start>``, ``<·|im_end|>``
==========================  =======================================
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import count

_VISIBLE = {"\t": "⇥", "\n": "⏎", "\r": "␍"}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})
_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5\u2800\u0f17")
# Markers of our own prompts and control tokens of chat models; `<|` and `<｜` always open one.
_SPECIAL = re.compile(
    r"<(?=[|｜])"
    r"|<(?=/?(?:start|end|bos|eos|pad|unk|s|sys|user|system|assistant|think|human|mask|sep|cls)\b)"
    r"|<(?=/?(?:start|end|im|tool|turn|reserved|unused|begin|fim|file|extra)[_a-z]*[0-9]*>)"
    r"|<(?=<\s*/?\s*SYS)"
    r"|\[(?=/?(?:INST|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|SYSTEM_PROMPT|EXPLANATION)\b)",
    re.IGNORECASE,
)
MAX_EXPLANATION_CHARS = 300


def visible(text: str) -> str:
    r"""The text on one line, with nothing in it that a reader cannot see.

    >>> visible("a\tb\n")
    'a⇥b⏎'
    >>> visible("<end>"), visible("<|im_end|>"), visible("x < y")
    ('<·end>', '<·|im_end|>', 'x < y')
    >>> visible("\u202eabc\u200b")
    '⟨U+202E⟩abc⟨U+200B⟩'
    """
    return _SPECIAL.sub(r"\g<0>·", text.translate(_STAND_INS))


def token_text(piece: bytes) -> str:
    r"""A token's bytes as text; bytes that are no whole character stay visible.

    >>> token_text("é".encode()), token_text(b"\xc3")
    ('é', '\\xc3')
    """
    return piece.decode("utf-8", errors="backslashreplace")


def whole_characters(pieces: Sequence[bytes]) -> tuple[tuple[int, ...], ...]:
    r"""Positions of the pieces, joined where a UTF-8 character is spread over several.

    >>> whole_characters([b"a", b"\xe4\xbd", b"\xa0", b"b"])
    ((0,), (1, 2), (3,))

    Bytes that never become a character stay alone.

    >>> whole_characters([b"\xff", b"b"])
    ((0,), (1,))
    """
    groups: list[tuple[int, ...]] = []
    start = 0
    while start < len(pieces):
        stop = _end_of_character(pieces, start)
        groups.append(tuple(range(start, stop)))
        start = stop
    return tuple(groups)


def one_line(text: str, *, max_chars: int = MAX_EXPLANATION_CHARS) -> str:
    r"""A model's explanation as one harmless line: no breaks, controls or markers, cut at a word.

    >>> one_line("  names\nof <end> people\u200b ")
    'names of <·end> people'

    Empty input gives an empty text, and so does a limit below 1.
    """
    if max_chars < 1:
        return ""
    spaced = re.sub(r"\s+", " ", text)
    kept = "".join(char for char in spaced if not _is_hidden(char)).strip()
    safe = _SPECIAL.sub(r"\g<0>·", kept)
    if len(safe) <= max_chars:
        return safe
    head = safe[: max_chars - 1]
    cut = head.rfind(" ")
    return (head[:cut] if cut > max_chars // 2 else head).rstrip() + "…"


def harmless_lines(text: str) -> str:
    r"""A person's text of several lines: no controls or markers but the breaks between lines.

    >>> harmless_lines(" a\tb \r\n\x00c\u202e\n\n")
    'a b\nc'
    """
    lines = re.split(r"\r\n|[\n\r\u2028\u2029]", text)
    kept = ("".join(c for c in line.replace("\t", " ") if not _is_hidden(c)) for line in lines)
    return _SPECIAL.sub(r"\g<0>·", "\n".join(line.rstrip() for line in kept)).strip()


def unused_delimiters(text: str) -> tuple[str, str]:
    """The first pair of marks that occurs nowhere in the text, in delphi's manner ``<<``, ``>>``.

    >>> unused_delimiters("plain text")
    ('<<', '>>')
    >>> unused_delimiters("1 << 2")
    ('«', '»')
    """
    return next(pair for pair in _mark_pairs() if pair[0] not in text and pair[1] not in text)


def _mark_pairs() -> Iterator[tuple[str, str]]:
    yield from (("<<", ">>"), ("«", "»"), ("⟦", "⟧"), ("【", "】"), ("⦃", "⦄"))
    for number in count(1):
        yield f"⟦{number}:", f":{number}⟧"


class _StandIns(dict[int, str]):
    """What each character is shown as; worked out when it first occurs."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        shown = f"⟨U+{code:04X}⟩" if _is_hidden(char) else char
        self[code] = shown
        return shown


_STAND_INS = _StandIns({ord(char): shown for char, shown in _VISIBLE.items()})


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or char in _INVISIBLE_LETTERS


def _end_of_character(pieces: Sequence[bytes], start: int) -> int:
    joined = b""
    for stop in range(start, min(start + 4, len(pieces))):
        joined += pieces[stop]
        try:
            joined.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.end < len(joined) or "unexpected end" not in error.reason:
                break
        else:
            return stop + 1
    return start + 1
