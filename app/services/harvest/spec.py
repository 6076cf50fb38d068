"""Harvest settings checked before anything is queued: every problem at once, with its field."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from app.services.harvest.source_checks import corpus_problems, model_problems, sae_problems
from app.services.problems import FieldProblem, FieldsInvalid
from core.domain.corpus import CorpusSpec
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.ids import check_model_id, check_sae_id
from core.domain.model import ModelSource
from core.errors import Invalid

# Words that stand in addresses where an id could stand, now or in versions to come.
RESERVED_IDS = frozenset(
    [
        *("align", "api", "compare", "docs", "endpoints", "explain", "explanations"),
        *("favicon.ico", "features", "go", "harvests", "health", "jobs", "label", "live"),
        *(
            "labels",
            "models",
            "new",
            "preferences",
            "queue",
            "random",
            "robots.txt",
            "saes",
            "scatter",
        ),
        *("scores", "settings", "static", "steer", "tag", "tags"),
    ]
)

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")
_HINTS = {
    "missing": "This field is needed.",
    "extra_forbidden": "Remove it or mend its name.",
    "union_tag_invalid": "Choose one of the kinds named.",
    "union_tag_not_found": "Say which kind it is.",
    "too_short": "Add at least one.",
}

_CORPUS: TypeAdapter[CorpusSpec] = TypeAdapter(CorpusSpec)
_MODEL = TypeAdapter(ModelSource)
_SAE = TypeAdapter(SaeEntry)

_Part = TypeVar("_Part")


def read_form(items: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Nested values from a form's dotted names; empty fields are left out.

    Numbers between dots make lists. A list of one field may come as several equal names.

    >>> read_form([("model.kind", "hub"), ("saes.0.sae_id", "3-x"), ("seed", "")])
    {'model': {'kind': 'hub'}, 'saes': [{'sae_id': '3-x'}]}
    """
    tree: dict[str, object] = {}
    for name, value in items:
        if value.strip():
            _plant(tree, name.split("."), value.strip())
    grown = _lists(tree)
    return grown if isinstance(grown, dict) else {}


def check_spec(values: Mapping[str, object]) -> HarvestSpec:
    """Harvest settings from JSON-like values, with local files looked at.

    Raises:
        FieldsInvalid: with every problem found.
    """
    problems = [*_shape_problems(values), *_meaning_problems(values)]
    if problems:
        raise FieldsInvalid(tuple(problems))
    return HarvestSpec.model_validate(dict(values))


def _plant(tree: dict[str, object], path: list[str], value: str) -> None:
    for step in path[:-1]:
        branch = tree.setdefault(step, {})
        if not isinstance(branch, dict):
            return  # a name is both a value and a group: the value stays and is reported
        tree = branch
    tree.setdefault(path[-1], value)


def _lists(node: object) -> object:
    if not isinstance(node, dict):
        return node
    grown = {key: _lists(child) for key, child in node.items()}
    if grown and all(re.fullmatch(r"[0-9]{1,6}", key) for key in grown):
        return [grown[key] for key in sorted(grown, key=int)]
    return grown


def _shape_problems(values: Mapping[str, object]) -> Iterator[FieldProblem]:
    try:
        HarvestSpec.model_validate(dict(values))
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            steps = [str(step) for step in detail["loc"]]
            yield FieldProblem(
                path=".".join(_without_tag(steps)),
                message=f"{detail['msg']}.",
                hint=_HINTS.get(detail["type"], ""),
            )


def _without_tag(steps: list[str]) -> list[str]:
    """A place without the union's tag, which no field bears: corpus.file.path -> corpus.path."""
    return [steps[0], *steps[2:]] if steps[:1] == ["corpus"] and len(steps) > 1 else steps


def _meaning_problems(values: Mapping[str, object]) -> Iterator[FieldProblem]:
    yield from _id_problems("model_id", values.get("model_id"), check_model_id)
    model = _part(_MODEL, values.get("model"))
    if model is not None:
        yield from model_problems(model)
    yield from _saes_problems(values.get("saes"), model)
    corpus = _part(_CORPUS, values.get("corpus"))
    if corpus is not None:
        yield from corpus_problems(corpus)
    device = values.get("device")
    if isinstance(device, str) and not _DEVICE.fullmatch(device):
        yield FieldProblem(
            path="device",
            message=f"There is no device {device!r}.",
            hint="Write auto, cpu, cuda, cuda:1 or mps.",
        )


def _saes_problems(saes: object, model: ModelSource | None) -> Iterator[FieldProblem]:
    entries = saes if isinstance(saes, list | tuple) else ()
    seen: set[str] = set()
    for place, raw in enumerate(entries):
        sae_id = raw.get("sae_id") if isinstance(raw, Mapping) else None
        yield from _id_problems(f"saes.{place}.sae_id", sae_id, check_sae_id)
        if isinstance(sae_id, str) and sae_id in seen:
            yield FieldProblem(
                path=f"saes.{place}.sae_id",
                message=f"{sae_id!r} is named twice.",
                hint="Give each SAE its own id.",
            )
        seen.update([sae_id] if isinstance(sae_id, str) else [])
        entry = _part(_SAE, raw)
        if entry is not None:
            yield from sae_problems(entry.source, model, path=f"saes.{place}.source")


def _id_problems(path: str, value: object, check: Callable[[str], str]) -> Iterator[FieldProblem]:
    if not isinstance(value, str):
        return  # missing or of a wrong type: told with the shape
    try:
        check(value)
    except Invalid as error:
        yield FieldProblem.of(path, error)
    if value in RESERVED_IDS:
        yield FieldProblem(
            path=path, message=f"{value!r} is a word of addresses.", hint="Choose another id."
        )


def _part(adapter: TypeAdapter[_Part], value: object) -> _Part | None:
    """A part of the settings that is in itself well formed, else None."""
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None
