"""What a label may say: every text of people is cleaned as explanations are, then measured."""

import re
import unicodedata
from collections.abc import Iterable

from app.services.problems import FieldProblem, FieldsInvalid
from core.autointerp.text import harmless_lines, one_line
from core.domain.label import LabelText
from core.errors import Invalid

MAX_NAME = 120
MAX_NOTE = 4_000
MAX_TAG = 40
MAX_TAGS = 50
MAX_AUTHOR = 80
NOBODY = "somebody"
_BETWEEN_TAGS = re.compile(r"[,;，；、\n]")
_JOINERS = "-_.:"


def checked(*, name: str, note: str = "", tags: Iterable[str] = ()) -> LabelText:
    """A label from what somebody typed.

    Raises:
        FieldsInvalid: a text is too long, or something is no tag; every problem is named.
    """
    problems: list[FieldProblem] = []
    line = one_line(name, max_chars=len(name) + MAX_NAME)
    lines = harmless_lines(note)
    for path, text, most in (("name", line, MAX_NAME), ("note", lines, MAX_NOTE)):
        if len(text) > most:
            problems.append(
                FieldProblem(
                    path=path,
                    message=f"The {path} has {len(text)} characters.",
                    hint=f"Write at most {most}.",
                )
            )
    found: tuple[str, ...] = ()
    try:
        found = checked_tags(tags)
    except Invalid as error:
        problems.append(FieldProblem.of("tags", error))
    if problems:
        raise FieldsInvalid(tuple(problems))
    return LabelText(name=line, note=lines, tags=found)


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in their one spelling, each once, sorted; empty ones are left out.

    >>> checked_tags(["Sycophancy", "made up", "", "sycophancy", "语气"])
    ('made-up', 'sycophancy', '语气')

    Raises:
        Invalid: one is none, or there are too many.
    """
    found = sorted({checked_tag(tag) for tag in tags if tag.strip()})
    if len(found) > MAX_TAGS:
        raise Invalid(f"These are {len(found)} tags.", hint=f"A feature bears at most {MAX_TAGS}.")
    return tuple(found)


def checked_tag(text: str) -> str:
    """A tag in its one spelling: lower case, dashes for spaces.

    >>> checked_tag(" Wide　ＡＩ ")
    'wide-ai'

    Raises:
        Invalid: it is empty, too long, or holds other characters.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    tag = re.sub(r"[\s-]+", "-", unicodedata.normalize("NFC", one_line(plain, max_chars=10_000)))
    tag = tag.strip("-")
    if len(tag) > MAX_TAG:
        raise Invalid(f"A tag has {len(tag)} characters.", hint=f"Write at most {MAX_TAG}.")
    if not tag or not _is_word(tag[0]) or not all(_is_part(char) for char in tag):
        raise Invalid(
            f"{text.strip()[:60]!r} is not a tag.",
            hint="Use letters of any script, digits, and - _ . : between them.",
        )
    return tag


def split_tags(text: str) -> list[str]:
    """Tags as somebody types them in one field.

    >>> split_tags("tone, made up；语气")
    ['tone', 'made up', '语气']
    """
    return [part.strip() for part in _BETWEEN_TAGS.split(text) if part.strip()]


def checked_author(text: str) -> str:
    """Who writes; ``somebody`` where no name is given."""
    return one_line(text, max_chars=MAX_AUTHOR) or NOBODY


def _is_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LN"


def _is_part(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN" or char in _JOINERS
