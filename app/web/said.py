"""What core, services and worker say in English, in the reader's language.

Errors, refused rows and titles of jobs are plain English wherever they are made, stored and sent.
Pages recognise them by the templates that the catalogue holds (``said_texts`` finds them) and
answer with its translation. Values stay as they are; what is not known stays English.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

from app.web import i18n, preference_words, words
from app.web.said_texts import CONTEXT, PLACEHOLDER
from core.domain.job import JobState
from core.domain.job_lines import N_
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
def _phrases(language: str) -> "Phrases":
    translate = i18n.catalogue(language).ugettext
    plainer = [(english, translate(plain)) for english, plain in _PLAINER.items()]
    return Phrases([*i18n.entries(language, CONTEXT), *plainer])


def _known(phrases: "Phrases", text: str) -> str | None:
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


@dataclass(frozen=True, slots=True)
class _Form:
    """A template that holds values, ready to be recognised.

    Attributes:
        fixed: what stands before the first value, between values and after the last one.
    """

    fixed: tuple[str, ...]
    pattern: re.Pattern[str]
    words: str

    @property
    def mark(self) -> str:
        """The longest part that is no value: what a text without it need not be compared with."""
        return max(self.fixed, key=len)

    @property
    def key(self) -> tuple[str, str]:
        """Its first word, else its last one; none of both where values are in them."""
        word, space, _ = self.fixed[0].partition(" ")
        if space:
            return word, ""
        _, space, word = self.fixed[-1].rpartition(" ")
        return ("", word) if space else ("", "")

    def of(self, text: str) -> str | None:
        """The words for a text, with its values; None where it is another."""
        if not (text.startswith(self.fixed[0]) and text.endswith(self.fixed[-1])):
            return None
        found = self.pattern.fullmatch(text)
        if found is None:
            return None
        return self.words % {
            name: _VALUE_WORDS.get(name, str)(value) for name, value in found.groupdict().items()
        }


class Phrases:
    """Templates of sentences with the words for each, found by a text's first or last word.

    >>> known = Phrases([("There is no file %(path)s.", "没有文件 %(path)s。"), ("Stop.", "停。")])
    >>> known.find("There is no file /data/100%.jsonl."), known.find("Stop."), known.find("Go.")
    ('没有文件 /data/100%.jsonl。', '停。', None)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, str] = {}
        self._forms: dict[tuple[str, str], list[tuple[str, _Form]]] = {}
        for template, words_of_it in pairs:
            if PLACEHOLDER.search(template):
                form = _form(template, words_of_it)
                self._forms.setdefault(form.key, []).append((form.mark, form))
            else:
                self._exact[template.replace("%%", "%")] = words_of_it.replace("%%", "%")
        for forms in self._forms.values():
            forms.sort(key=lambda marked: -len("".join(marked[1].fixed)))

    def find(self, text: str) -> str | None:
        """The words for one sentence; of several templates, the one that fixes most of it."""
        exact = self._exact.get(text)
        return exact if exact is not None else next(self._matching(text), None)

    def _matching(self, text: str) -> Iterator[str]:
        for key in ((text.partition(" ")[0], ""), ("", text.rpartition(" ")[2]), ("", "")):
            for mark, form in self._forms.get(key, ()):
                found = form.of(text) if mark in text else None
                if found is not None:
                    yield found


def _form(template: str, words_of_it: str) -> _Form:
    parts = PLACEHOLDER.split(template)  # fixed, name, fixed, name, … fixed
    fixed = [part.replace("%%", "%") for part in parts[::2]]
    pattern, seen = re.escape(fixed[0]), set[str]()
    for name, part in zip(parts[1::2], fixed[1:], strict=True):
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.*?)"
        pattern += re.escape(part)
        seen.add(name)
    return _Form(fixed=tuple(fixed), pattern=re.compile(pattern, re.DOTALL), words=words_of_it)


def _state(value: str) -> str:
    return words.state_word(JobState(value)) if value in set(JobState) else value


def _role(value: str) -> str:
    return preference_words.role_word(Role(value)) if value in set(Role) else value


# Values that are words of ours, not of the reader.
_VALUE_WORDS: Mapping[str, Callable[[str], str]] = {
    "message": said,
    "detail": said,
    "doing": said,
    "state": _state,
    "role": _role,
    "role_2": _role,
}
