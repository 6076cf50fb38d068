"""The REST API's own description as a page shows it: operations by subject, each with a command."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from app.web.snippets import curl_snippet

_JSON, _FILE = "application/json", "application/octet-stream"
_REF = "#/components/schemas/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What stands in an operation's path or query.

    Attributes:
        kind: its type with the values or bounds allowed.
        default: as text; None when it is needed or has none.
    """

    name: str
    place: str
    kind: str
    needed: bool
    default: str | None
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        anchor: its place on the page.
        command: a call with the examples' values, for a shell.
        answer: example of what comes back; empty where it is no JSON.
        media: media type of the answer.
    """

    anchor: str
    method: str
    path: str
    summary: str
    details: str
    parameters: tuple[Parameter, ...]
    command: str
    status: str
    media: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Operations about one thing."""

    name: str
    description: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What holds for every operation: a sentence, and rules."""

    begin: str
    rules: tuple[str, ...]


def about(description: str) -> About:
    r"""The document's description, whose rules begin with a star each.

    >>> about("Features.\n\n* Lists come\n  in `pages`.\n* Errors have a code.").rules
    ('Lists come in pages.', 'Errors have a code.')
    """
    begin, *rules = (_plain(part) for part in f"\n{description}".split("\n* "))
    return About(begin=begin, rules=tuple(rules))


def subjects(document: Mapping[str, Any], *, base_url: str) -> tuple[Subject, ...]:
    """Every operation of an OpenAPI document, by tag, in the document's order.

    Args:
        document: with a tag for each operation.
        base_url: of this server, for the commands.
    """
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            read = _operation(method.upper(), path, operation, schemas=schemas, base_url=base_url)
            found[operation["tags"][0]].append(read)
    return tuple(
        Subject(
            name=tag["name"],
            description=tag["description"],
            operations=tuple(found[tag["name"]]),
        )
        for tag in document["tags"]
    )


def _operation(
    method: str,
    path: str,
    operation: Mapping[str, Any],
    *,
    schemas: Mapping[str, Any],
    base_url: str,
) -> Operation:
    summary, _, details = operation.get("description", operation["summary"]).partition("\n\n")
    parameters = operation.get("parameters", ())
    body = _sent(operation)
    status, answer = next(iter(operation["responses"].items()))
    nothing: tuple[str, Mapping[str, Any]] = ("", {})
    media, content = next(iter(answer.get("content", {}).items()), nothing)
    return Operation(
        anchor=operation["operationId"],
        method=method,
        path=path,
        summary=_plain(summary),
        details=_plain(details),
        parameters=tuple(_parameter(one, schemas) for one in parameters),
        command=_command(method, path, operation, body, base_url=base_url),
        status=status,
        media=media,
        answer=_text(content["example"]) if "example" in content else "",
    )


def _sent(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Example of the JSON that is sent, if the operation takes JSON."""
    content = operation.get("requestBody", {}).get("content", {}).get(_JSON)
    if content is None:
        return None
    examples = content["schema"].get("examples", [{}])
    example = content.get("example", examples[0])
    return example if isinstance(example, Mapping) else {}


def _command(
    method: str,
    path: str,
    operation: Mapping[str, Any],
    body: Mapping[str, Any] | None,
    *,
    base_url: str,
) -> str:
    called = _called(path, operation)
    if body is not None:
        return curl_snippet(base_url, called, body, method=method)
    how = "" if method == "GET" else f"-X {method} "
    file = f" -H 'Content-Type: {_FILE}' --data-binary @FILE" if _takes_file(operation) else ""
    return f"curl {how}{shlex.quote(base_url.rstrip('/') + called)}{file}"


def _called(path: str, operation: Mapping[str, Any]) -> str:
    """The path with the examples' values, and of the query what is needed."""
    query: dict[str, object] = {}
    for one in operation.get("parameters", ()):
        schema = one["schema"]
        example = [*schema.get("examples", ()), *schema.get("enum", ()), ""][0]
        if one["in"] == "path":
            path = path.replace("{" + one["name"] + "}", quote(str(example)))
        elif one.get("required") or (one["name"] == "filename" and _takes_file(operation)):
            query[one["name"]] = example
    return f"{path}?{urlencode(query)}" if query else path


def _takes_file(operation: Mapping[str, Any]) -> bool:
    return _FILE in operation.get("requestBody", {}).get("content", {})


def _parameter(one: Mapping[str, Any], schemas: Mapping[str, Any]) -> Parameter:
    schema = one["schema"]
    default = schema.get("default")
    return Parameter(
        name=one["name"],
        place=one["in"],
        kind=" | ".join(dict.fromkeys(_kinds(schema, schemas))),
        needed=bool(one.get("required")),
        default=None if default is None else json.dumps(default, ensure_ascii=False),
        description=_plain(one.get("description", "")),
    )


def _kinds(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    """Types of a value, each with its bounds; null is left out."""
    if "$ref" in schema:
        yield from _kinds(schemas[schema["$ref"].removeprefix(_REF)], schemas)
        return
    for part in schema.get("anyOf", ()):
        yield from _kinds(part, schemas)
    if "enum" in schema:
        yield from (json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    elif schema.get("type") == "array":
        yield " | ".join(f"{kind}[]" for kind in _kinds(schema["items"], schemas))
    elif schema.get("type", "null") != "null":
        yield f"{schema['type']}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None and most is None:
        return ""
    if most is None:
        return f" ≥ {least:,}"
    return f" ≤ {most:,}" if least is None else f" {least:,} … {most:,}"


def _plain(text: str) -> str:
    """Text on one line, without the marks of code."""
    return " ".join(text.replace("`", "").split())


def _text(example: object) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)
