"""Sentences that core, services and worker say are found where they are written."""

import ast
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.extract import extract

from app.web.said_texts import CONTEXT, sentences
from core import errors

ROOT = Path(__file__).parents[3]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {"FieldProblem"}


def found(source: str) -> list[str]:
    """Templates of a module, in their order."""
    return [text for _, text in sentences(source)]


@pytest.mark.parametrize(
    ("source", "templates"),
    [
        pytest.param(
            'raise NotFound("No such job.", hint="See the list.")',
            ["No such job.", "See the list."],
            id="message and hint",
        ),
        pytest.param(
            'FieldProblem(path="k", message="Too large.", hint="Lower it.")',
            ["Too large.", "Lower it."],
            id="by name",
        ),
        pytest.param(
            'raise Invalid(f"Token {place} of " f"{card.n} is {len(rows)}.")',
            ["Token %(place)s of %(n)s is %(n_rows)s."],
            id="an f-string in two pieces",
        ),
        pytest.param(
            'raise Invalid(f"{a.shape!r} is not {b.shape}, but {a.shape!r}.")',
            ["%(shape)s is not %(shape_2)s, but %(shape)s."],
            id="another value of one name is numbered, the same one is not",
        ),
        pytest.param(
            'raise Invalid("A." if wide else f"{n} are too few.", hint="Give 50%.")',
            ["%(n)s are too few.", "Give 50%%."],
            id="both sides of a condition, per cent written twice, no sentence in a letter",
        ),
        pytest.param(
            'raise Invalid(name or "It has no name.")',
            ["It has no name."],
            id="what stands in for a text that is not known",
        ),
        pytest.param(
            "raise Invalid(f\"{name or 'The file'} is empty.\")",
            ["The file is empty.", "%(name)s is empty."],
            id="a value that may be a text of ours",
        ),
        pytest.param(
            'def f():\n  for what, n in (("name", 1), ("note", 2)):\n'
            '    raise Invalid(f"The {what} is long.")',
            ["The name is long.", "The note is long."],
            id="every turn of a loop",
        ),
        pytest.param(
            'HINT = "Look again."\ndef f(message):\n    raise Invalid(message, hint=HINT)',
            ["Look again."],
            id="a name of the module; a parameter is said by who calls",
        ),
        pytest.param(
            "def fault(kind):\n  if kind:\n    return f'{kind} is unknown.', 'Mend it.'\n"
            "def f():\n  message, hint = fault('x')\n  FieldProblem(message=message, hint=hint)",
            ["%(kind)s is unknown.", "Mend it."] * 2,
            id="what a function answers",
        ),
        pytest.param(
            'M = {"ge": "Write at least {ge}."}\n'
            "FieldProblem(message=M[kind].format(**ctx), hint=M.get(kind))",
            ["Write at least %(ge)s.", "Write at least {ge}."],
            id="a table of texts, and values filled in later",
        ),
        pytest.param(
            'from pydantic import BaseModel\nraise ValueError("others is 0")',
            ["Others is 0."],
            id="what pydantic tells of a value",
        ),
        pytest.param('raise ValueError("no JSON")', [], id="what nobody reads"),
        pytest.param('raise Invalid(gettext("Choose a file."))', [], id="what pages say already"),
        pytest.param("raise Invalid(error.message, hint=error.hint)", [], id="what is passed on"),
        pytest.param('raise Invalid(f"{place}: {first}.")', [], id="what has no word of its own"),
    ],
)
def test_a_sentence_is_found_where_it_is_said(source, templates):
    assert found(source) == templates


def test_babel_gets_marked_messages_and_sentences_apart():
    source = BytesIO(b'raise Invalid(f"No {x}.")\ntoast = gettext("No.")\n')
    messages = {(m, context) for _, m, _, context in extract("app.web.said_texts:extract", source)}
    assert messages == {("No %(x)s.", CONTEXT), ("No.", None)}


def test_nothing_that_people_read_is_put_together_by_plus_or_percent():
    """Such a sentence could not be found; f-strings can."""
    for folder in ("app/services", "core", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    parts = [*node.args, *(k.value for k in node.keywords)]
                    mixed = any(isinstance(part, ast.BinOp) for part in parts)
                    assert not (mixed and node.func.id in ERRORS), f"{path}:{node.lineno}"
