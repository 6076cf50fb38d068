"""What is wrong with a form or a request, field by field."""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from core.errors import Conflict, Invalid, SparsightError

_HINTS = {
    "extra_forbidden": "Remove it or mend its name.",
    "too_short": "Choose at least one.",
}
_MESSAGES = {
    "missing": "This field is needed.",
    "int_parsing": "Write a whole number.",
    "int_type": "Write a whole number.",
    "int_from_float": "Write a whole number.",
    "float_parsing": "Write a number.",
    "float_type": "Write a number.",
    "finite_number": "Write a number.",
    "greater_than_equal": "Write at least {ge}.",
    "less_than_equal": "Write at most {le}.",
    "string_too_long": "Write at most {max_length} characters.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """One field that has to be mended.

    Attributes:
        path: dotted place of the field, e.g. ``saes.0.source.location``; empty for the whole.
        message: what is wrong, one sentence.
        hint: how to mend it.
    """

    path: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, path: str, error: SparsightError) -> Self:
        """An error as the problem of the field that mends it."""
        return cls(path=path, message=error.message, hint=error.hint)


def field_problems(error: ValidationError) -> tuple[FieldProblem, ...]:
    """What pydantic found, as problems of fields; never what was typed, which may be a secret."""
    return tuple(
        FieldProblem(
            path=".".join(str(step) for step in detail["loc"]),
            message=_MESSAGES[detail["type"]].format(**detail.get("ctx", {}))
            if detail["type"] in _MESSAGES
            else _sentence(detail["msg"]),
            hint=_HINTS.get(detail["type"], ""),
        )
        for detail in error.errors(include_input=False, include_url=False)
    )


def _sentence(text: str) -> str:
    """A message of ours without pydantic's label, or one of pydantic's, as a sentence.

    >>> _sentence("Value error, write an address")
    'Write an address.'
    """
    said = text.removeprefix("Value error, ")
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."


class FieldsInvalid(Invalid):
    """One or more fields are wrong, all of them named.

    Attributes:
        problems: one or more, in the order of the fields.
    """

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        self.problems = problems
        first = problems[0]
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        place = f"{first.path}: " if first.path else ""
        super().__init__(f"{place}{first.message}{more}", hint=first.hint)


class FieldsChanged(Conflict):
    """Fields of something that changed while it was written; each problem has the present value.

    Attributes:
        problems: one or more, in the order of the fields.
    """

    def __init__(self, message: str, /, *, hint: str, problems: tuple[FieldProblem, ...]) -> None:
        self.problems = problems
        super().__init__(message, hint=hint)
