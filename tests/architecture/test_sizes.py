"""Functions stay short and files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "app", "worker", "tools", "bench")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
MAX_POSITIONAL = 6

# torch.autograd.Function.apply hands its arguments on by position only.
POSITIONAL_BY_NATURE = {("worker/align/divergence.py", "forward")}

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_within_the_gate(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: own_lines(f) for f in functions if own_lines(f) > MAX_FUNCTION_LINES}
    assert not long, f"split these functions: {long}"
    place = path.relative_to(ROOT).as_posix()
    wide = {
        f.name: len(f.args.args)
        for f in functions
        if len(f.args.args) > MAX_POSITIONAL and (place, f.name) not in POSITIONAL_BY_NATURE
    }
    assert not wide, f"make parameters keyword-only: {wide}"


def test_no_drawer_is_named_for_nothing():
    banned = {"utils", "helpers", "common", "manager", "misc"}
    found = [path for path in FILES if path.stem in banned or path.parent.name in banned]
    assert not found, "a function lives with the noun that it serves"
