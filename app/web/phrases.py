"""Sentences with values in them, recognised by the templates that they were made from."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

PLACEHOLDER = re.compile(r"%\((\w+)\)s")
ValueWords = Mapping[str, Callable[[str], str]]


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

    def of(self, text: str, value_words: ValueWords) -> str | None:
        """The words for a text, with its values; None where it is another."""
        if not (text.startswith(self.fixed[0]) and text.endswith(self.fixed[-1])):
            return None
        found = self.pattern.fullmatch(text)
        if found is None:
            return None
        return self.words % {
            name: value_words.get(name, str)(value) for name, value in found.groupdict().items()
        }


class Phrases:
    """Templates of sentences with the words for each, found by a text's first or last word.

    Args:
        pairs: template and words, both with the same placeholders.
        value_words: by placeholder, what puts a value into words; others stay as they are.

    >>> pairs = [("There is no file %(path)s.", "没有文件 %(path)s。"), ("Stop.", "停。")]
    >>> known = Phrases(pairs, {})
    >>> known.find("There is no file /data/100%.jsonl."), known.find("Stop."), known.find("Go.")
    ('没有文件 /data/100%.jsonl。', '停。', None)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], value_words: ValueWords) -> None:
        self._value_words = value_words
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
                found = form.of(text, self._value_words) if mark in text else None
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
