"""Help texts of settings: the descriptions that their fields bear, in the reader's language."""

import ast
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import IO, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from app.web import said_texts
from app.web.i18n import gettext


def extract(
    file: IO[bytes], keywords: Mapping[str, Any], comment_tags: list[str], options: Any
) -> Iterator[tuple[Any, ...]]:
    """Descriptions of fields in a module of settings, as Babel wants them, and what it says."""
    yield from said_texts.extract(file, keywords, comment_tags, options)
    file.seek(0)
    for node in ast.walk(ast.parse(file.read())):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "Field":
            continue
        for keyword in node.keywords:
            if keyword.arg == "description" and isinstance(keyword.value, ast.Constant):
                yield keyword.value.lineno, "gettext", str(keyword.value.value), []


def help_of(model: type[BaseModel], path: str) -> str:
    """The sentence that explains a field, by its dotted path; empty where it bears none.

    >>> from core.domain.alignment import AlignSpec
    >>> help_of(AlignSpec, "training.optimizer.learning_rate")
    'Peak learning rate.'
    >>> help_of(AlignSpec, "constraint.0.k")
    "Size of each top-k set and the divergence's normaliser."
    """
    steps = [step for step in path.split(".") if not step.isdigit()]
    found = list(_descriptions([model], steps))
    return gettext(found[0]) if found else ""


def _descriptions(models: list[type[BaseModel]], steps: list[str]) -> Iterator[str]:
    for model in models:
        field = model.model_fields.get(steps[0])
        if field is None:
            continue
        if len(steps) == 1:
            if field.description:
                yield field.description
        else:
            yield from _descriptions(list(_models(field.annotation)), steps[1:])


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every class of settings inside an annotation: of unions, tuples and optional ones."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, UnionType, tuple, list, Annotated}:
        for part in get_args(annotation):
            yield from _models(part)
