"""English sentences that core, services and worker say to people, found where they are written.

Errors, refused rows and titles of jobs are plain English wherever they are made, stored and sent.
For catalogues they are found here as templates, with values named after the code that fills them;
``app.web.said`` recognises them again in a text.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import IO, Any

from babel.messages.extract import extract_python

from app.services import problems
from app.web.phrases import PLACEHOLDER
from core import errors

CONTEXT = "said"  # tells these sentences from texts of pages in the catalogue

_ERRORS = tuple(
    kind.__name__
    for module in (errors, problems)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, errors.SparsightError)
)
# Who says something: the place of its sentence among the arguments, and their names.
_SPEAKERS: Mapping[str, tuple[int | None, tuple[str, ...]]] = {
    **dict.fromkeys(_ERRORS, (0, ("hint",))),
    **dict.fromkeys(
        ("Cause", "Failure", "FieldProblem", "JobFailure", "LiveStep", "Trouble"),
        (None, ("message", "hint")),
    ),
    "_wrong": (1, ("hint",)),
    "failure": (1, ()),
    "RowRejected": (1, ()),
    "_RefusedError": (1, ()),
    "_Line": (None, ("fault",)),
    "Row": (None, ("problem",)),
    "Capabilities": (None, ("notes",)),
    "Tokenization": (None, ("bos_rule",)),
    "memory_errors": (0, ()),  # what was done when memory ran out
}
_ANSWERS = {"job_title", "_parse"}  # functions that answer with sentences
_OPEN = "\0"  # stands for a value while a template is put together
_WORD = re.compile(r"[^\W\d_]{2}")
_FIELD = re.compile(r"\{(\w+)\}")


def extract(
    file: IO[bytes], keywords: Mapping[str, Any], comment_tags: list[str], options: Any
) -> Iterator[tuple[Any, ...]]:
    """Messages of a Python file as Babel wants them: marked ones, then sentences that it says."""
    yield from extract_python(file, keywords, comment_tags, options)
    file.seek(0)
    for line, text in sentences(file.read()):
        yield line, "pgettext", [CONTEXT, text], []


def sentences(source: str | bytes) -> Iterator[tuple[int, str]]:
    """Line and template of each sentence that a module says.

    >>> list(sentences('raise Invalid(f"There is no {path!r}.", hint=f"Name 1 to {len(rows)}.")'))
    [(1, 'There is no %(path)s.'), (1, 'Name 1 to %(n_rows)s.')]
    """
    module = _Module(ast.parse(source))
    for node, scope in module.walk():
        for part in module.spoken(node):
            for text in module.texts(part, scope):
                if _WORD.search(PLACEHOLDER.sub("", text)):
                    yield part.lineno, text


@dataclass(frozen=True)
class _Template:
    """A text with places for values, which ``names`` names in order."""

    text: str
    names: tuple[tuple[str, str], ...] = ()  # of each value: its name, and the code that makes it

    def written(self) -> str:
        """The template with its placeholders; other values of one name are numbered."""
        known: dict[str, list[str]] = {}
        parts = self.text.replace("%", "%%").split(_OPEN)
        found = [parts[0]]
        for (name, code), part in zip(self.names, parts[1:], strict=True):
            codes = known.setdefault(name, [])
            if code not in codes:
                codes.append(code)
            place = codes.index(code)
            found.append(f"%({name if place == 0 else f'{name}_{place + 1}'})s{part}")
        return "".join(found)


def _value(node: ast.expr) -> _Template:
    return _Template(_OPEN, ((_name(node), ast.unparse(node)),))


_Scope = ast.FunctionDef | ast.AsyncFunctionDef | None


@dataclass
class _Module:
    """A module whose names stand for texts where they are given some."""

    tree: ast.Module

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Functions of the module by name."""
        return {
            node.name: node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    @cached_property
    def wraps_values(self) -> bool:
        """Whether pydantic tells people what its checks of values raise."""
        return any(
            isinstance(node, ast.ImportFrom) and node.module == "pydantic"
            for node in self.tree.body
        )

    def walk(self) -> Iterator[tuple[ast.AST, _Scope]]:
        """Every node, in the order of the text, with the function that it is, or is in."""
        waiting: list[tuple[ast.AST, _Scope]] = [(self.tree, None)]
        while waiting:
            node, scope = waiting.pop()
            inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else scope
            yield node, inner
            waiting += [(child, inner) for child in reversed(list(ast.iter_child_nodes(node)))]

    def spoken(self, node: ast.AST) -> Iterator[ast.expr]:
        """Parts of a node that people read."""
        if isinstance(node, ast.FunctionDef) and node.name in _ANSWERS:
            yield from _returns(node)
        if not isinstance(node, ast.Call):
            return
        place, names = _SPEAKERS.get(_called(node), (None, ()))
        if place is not None and len(node.args) > place:
            yield node.args[place]
        yield from (keyword.value for keyword in node.keywords if keyword.arg in names)
        if _called(node) == "ValueError" and self.wraps_values and node.args:
            yield node

    def texts(self, node: ast.expr, scope: _Scope) -> Iterator[str]:
        """Templates that an expression may be."""
        for found in self._found(node, scope, 0):
            if found.text != _OPEN:
                yield found.written()

    def _found(self, node: ast.expr, scope: _Scope, depth: int) -> Iterator[_Template]:
        """What an expression may be; an open value where that cannot be told."""
        if depth > 8:
            yield _value(node)
            return
        match node:
            case ast.Constant(value=str() as text):
                yield _Template(text)
            case ast.JoinedStr(values=values):
                yield from self._joined(values, scope, depth)
            case ast.IfExp(body=one, orelse=other):
                yield from self._each((one, other), scope, depth)
            case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                yield from self._each(parts, scope, depth)
            case ast.Dict(values=parts):
                yield from self._each(parts, scope, depth)
            case ast.Subscript(value=whole):
                yield from self._each((whole,), scope, depth)
            case ast.Name(id=name):
                given = self._given(name, scope)
                yield from self._each(given, scope, depth) if given else (_value(node),)
            case ast.Call():
                yield from self._answered(node, scope, depth)
            case _:
                yield _value(node)

    def _each(
        self, nodes: tuple[ast.expr, ...] | list[ast.expr], scope: _Scope, depth: int
    ) -> Iterator[_Template]:
        for node in nodes:
            yield from self._found(node, scope, depth + 1)

    def _joined(self, parts: list[ast.expr], scope: _Scope, depth: int) -> Iterator[_Template]:
        """An f-string; a value that may be a text that is known makes a template of each."""
        options = [list(self._part(part, scope, depth)) for part in parts]
        for chosen in product(*options):
            yield _Template(
                "".join(part.text for part in chosen),
                tuple(name for part in chosen for name in part.names),
            )

    def _part(self, part: ast.expr, scope: _Scope, depth: int) -> Iterator[_Template]:
        if not isinstance(part, ast.FormattedValue):
            yield from self._found(part, scope, depth + 1)
            return
        plain = part.conversion == -1 and part.format_spec is None
        known = plain and isinstance(part.value, ast.Name | ast.IfExp | ast.BoolOp)
        found = list(self._found(part.value, scope, depth + 1)) if known else []
        texts = [one for one in found if one.text != _OPEN]
        yield from texts
        if not found or len(texts) < len(found):
            yield _Template(_OPEN, ((_name(part.value), ast.unparse(part)),))

    def _answered(self, call: ast.Call, scope: _Scope, depth: int) -> Iterator[_Template]:
        """What a call may answer: of functions of this module, and of methods of texts."""
        name = _called(call)
        if name == "ValueError":
            for found in self._found(call.args[0], scope, depth + 1):
                yield _Template(_sentence(found.text), found.names)
        elif isinstance(call.func, ast.Name) and name in self.functions:
            inner = self.functions[name]
            yield from self._each(_returns(inner), inner, depth)
        elif name in {"tuple", "list"} and call.args:
            yield from self._found(call.args[0], scope, depth + 1)
        elif name == "format" and isinstance(call.func, ast.Attribute):
            for found in self._found(call.func.value, scope, depth + 1):
                fields = tuple((field.lower(), field) for field in _FIELD.findall(found.text))
                yield _Template(_FIELD.sub(_OPEN, found.text), fields or found.names)
        elif name in {"get", "replace", "strip", "rstrip"} and isinstance(call.func, ast.Attribute):
            yield from self._found(call.func.value, scope, depth + 1)
        else:
            yield _value(call)

    def _given(self, name: str, scope: _Scope) -> list[ast.expr]:
        """What a name is given in its function, else in the module."""
        if scope is not None:
            arguments = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
            if found := list(_gifts(name, scope)):
                return found
            if any(argument.arg == name for argument in arguments):
                return []
        return [gift for node in self.tree.body for gift in _gift(name, node)]


def _gifts(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        yield from _gift(name, node)


def _gift(name: str, node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Assign(targets=targets, value=value):
            if any(name in _names(target) for target in targets):
                yield value
        case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
            if target == name:
                yield value
        case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="append"), args=[value]):
            if target == name:
                yield value
        case ast.For(target=ast.Tuple(elts=parts), iter=ast.Tuple(elts=rows)):
            places = [place for place, part in enumerate(parts) if name in _names(part)]
            yield from (row.elts[p] for row in rows if isinstance(row, ast.Tuple) for p in places)
        case ast.For(target=ast.Name(id=target), iter=ast.Tuple(elts=rows)):
            if target == name:
                yield from rows
        case _:
            pass


def _names(target: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}


def _returns(function: ast.AST) -> list[ast.expr]:
    return [
        node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value
    ]


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _sentence(text: str) -> str:
    """What a check of values raises, as the sentence that people read."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _name(node: ast.expr) -> str:
    """What a value is called in its template, after the code that makes it.

    >>> [_name(ast.parse(code, mode="eval").body) for code in ("card.harvest_id", "len(rows)")]
    ['harvest_id', 'n_rows']
    >>> [_name(ast.parse(code, mode="eval").body) for code in ("', '.join(known)", "first['msg']")]
    ['known', 'msg']
    """
    match node:
        case ast.Name(id=name):
            return name.lower().strip("_")
        case ast.Attribute(value=value, attr=name):
            inner = name == "value" or name.startswith("__")
            return _name(value) if inner else name.lower().strip("_")
        case ast.Call(func=ast.Name(id="len"), args=[value]):
            return f"n_{_name(value)}"
        case ast.Call(func=ast.Attribute(value=ast.expr() as value, attr=attr), args=args):
            return _name(args[0]) if args and attr == "join" else _name(value)
        case ast.Call(func=ast.Name(id="map"), args=[_, value]) | ast.Call(args=[value, *_]):
            return _name(value)
        case ast.Call(func=ast.Name(id=name)):
            return name.lower().strip("_")
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name.lower()
        case _:
            inside = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
            return next((name for child in inside if (name := _name(child)) != "value"), "value")
