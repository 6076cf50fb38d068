"""What is wrong with a form or a request, field by field."""

from dataclasses import dataclass

from core.errors import Invalid


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
