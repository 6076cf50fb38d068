"""What core, services and worker say in English, in the reader's language.

Errors, refused rows and titles of jobs are plain English wherever they are made, stored and sent.
Pages recognise them by the templates that the catalogue holds (``said_texts`` finds them) and
answer with its translation. Values stay as they are; what is not known stays English.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Protocol

from pydantic import JsonValue

from app.web import i18n, preference_words, words
from app.web.phrases import Phrases, ValueWords
from app.web.said_texts import CONTEXT
from core.domain.job import JobState
from core.domain.job_lines import N_, SENTENCES
from core.domain.preference import Role

_MOST_CHARACTERS = 4_000  # of a text that is looked at; a longer one is no sentence of ours
_MOST_CUTS = 5
_BETWEEN_SENTENCES = re.compile(r"(?<=[.?!]) ")
_WIDE_ENDS = "。？！；："  # after these no space is written

# Sentences of pydantic and of settings speak to programs: forms say them plainly, in English too.
_PLAINER: Mapping[str, str] = {
    "Field required.": N_("This field is needed."),
    "String should have at least 1 character.": N_("This field is needed."),
    "Unable to extract tag using discriminator %(name)s.": N_("This field is needed."),
    "Input should be a valid integer%(why)s.": N_("Write a whole number."),
    "Input should be a valid number%(why)s.": N_("Write a number."),
    "Input should be a finite number.": N_("Write a number."),
    "Unable to parse input string as an integer, exceeded maximum size.": N_(
        "Write a smaller number."
    ),
    "Input should be a multiple of %(n)s.": N_("Write a multiple of %(n)s."),
    "Input should be a valid string%(why)s.": N_("Write text."),
    "Input should be a valid boolean%(why)s.": N_("Choose yes or no."),
    "Input should be a valid list.": N_("Give a list."),
    "Input should be a valid tuple.": N_("Give a list."),
    "Input should be a valid dictionary%(why)s.": N_("Give settings with their names."),
    "Input should be greater than or equal to %(n)s.": N_("Write %(n)s or more."),
    "Input should be greater than %(n)s.": N_("Write more than %(n)s."),
    "Input should be less than or equal to %(n)s.": N_("Write %(n)s or less."),
    "Input should be less than %(n)s.": N_("Write less than %(n)s."),
    "Input should be '%(options)s'.": N_("Choose '%(options)s'."),
    "Input tag '%(tag)s' found using %(name)s does not match any of the expected tags: "
    "%(options)s.": N_("Choose one of %(options)s."),
    "String should match pattern '%(pattern)s'.": N_("Choose one."),
    "String should have at least %(n)s characters.": N_("Write at least %(n)s characters."),
    "String should have at most %(n)s characters.": N_("Write at most %(n)s characters."),
    "%(kind)s should have at least 1 item after validation, not 0.": N_("There is none yet."),
    "%(kind)s should have at least %(n)s items after validation, not %(found)s.": N_(
        "There are too few: at least %(n)s are needed."
    ),
    "%(kind)s should have at most %(n)s items after validation, not %(found)s.": N_(
        "There are too many: at most %(n)s are possible."
    ),
    "Extra inputs are not permitted.": N_("There is no such setting."),
    "Fpo needs at least one SAE in its constraint set.": N_("FPO needs at least one SAE."),
    "An SAE is named twice in the constraint set.": N_(
        "An SAE is named twice; remove one of its rows."
    ),
    "Others is 0 and no feature is held, so nothing is constrained.": N_(
        "The weight of all others is 0 and no feature is held: nothing would be."
    ),
    "Max_prompt_length leaves no room for an answer below max_length.": N_(
        "The longest prompt leaves no room for an answer."
    ),
    "Adapters are small enough for ddp; fsdp is for training all weights.": N_(
        "Adapters are small enough for DDP; FSDP is for training all weights."
    ),
}


class Problem(Protocol):
    """Something that went wrong: a sentence, and how to mend it."""

    @property
    def message(self) -> str:
        """What is wrong."""
        ...

    @property
    def hint(self) -> str:
        """How to mend it; may be empty."""
        ...


def said(text: str | None) -> str:
    """A sentence, or some of them, in the reader's language; the text itself where none is known.

    >>> said("Input should be greater than or equal to 1."), said("Whatever.")
    ('Write 1 or more.', 'Whatever.')
    """
    return _said(i18n.current.get(), text.strip()) if text else ""


def told(problem: Problem) -> str:
    """A problem and how to mend it as one text in the reader's language.

    >>> from app.services.problems import FieldProblem
    >>> told(FieldProblem(path="k", message="Field required.", hint="This field is needed."))
    'This field is needed.'
    """
    message, hint = said(problem.message), said(problem.hint)
    return joined(message, hint) if hint != message else message


@lru_cache(maxsize=1_024)
def _said(language: str, text: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        return text
    return _known(_phrases(language), text) or text


@cache
def _phrases(language: str) -> Phrases:
    translate = i18n.catalogue(language).ugettext
    plainer = [(english, translate(plain)) for english, plain in _PLAINER.items()]
    return Phrases([*i18n.entries(language, CONTEXT), *plainer], _VALUE_WORDS)


def _known(phrases: Phrases, text: str) -> str | None:
    """A sentence, or several with spaces between them, if every one is known."""
    pieces = _BETWEEN_SENTENCES.split(text, maxsplit=_MOST_CUTS)
    from_here: list[str | None] = [None] * len(pieces)  # the words of each piece and all after it
    for start in reversed(range(len(pieces))):
        for stop in range(start + 1, len(pieces) + 1):
            first = phrases.find(" ".join(pieces[start:stop]))
            rest = "" if stop == len(pieces) else from_here[stop]
            if first is not None and rest is not None:
                from_here[start] = joined(first, rest)
                break
    return from_here[0]


def joined(first: str, second: str) -> str:
    """Two sentences in a row, either of which may be empty."""
    return f"{first}{'' if first[-1:] in _WIDE_ENDS else ' '}{second}".strip()


def log_text(text: str, kind: str | None, values: Mapping[str, JsonValue]) -> str:
    """A line of a job's log in the reader's language; free text as it is.

    >>> log_text("1,200 more lines left out", "lines_left_out", {"n": 1200})
    '1,200 more lines left out'
    """
    found = SENTENCES.get(kind or "")
    if found is None:
        return text
    try:
        return i18n.gettext(found) % {name: _in_line(name, value) for name, value in values.items()}
    except KeyError:  # a line of another version
        return text


def _in_line(name: str, value: JsonValue) -> str:
    if name in _LINE_WORDS:
        return _LINE_WORDS[name](str(value))
    return i18n.number(value) if isinstance(value, int) else str(value)


def _state(value: str) -> str:
    return words.state_word(JobState(value)) if value in set(JobState) else value


def _role(value: str) -> str:
    return preference_words.role_word(Role(value)) if value in set(Role) else value


# Values that are words of ours, not of the reader.
_VALUE_WORDS: ValueWords = {
    "message": said,
    "detail": said,
    "doing": said,
    "state": _state,
    "role": _role,
    "role_2": _role,
}
_LINE_WORDS: ValueWords = {
    "message": said,
    "code": words.error_word,
    "phase": words.phase_word,
    "unit": words.unit_word,
}
