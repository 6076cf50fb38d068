"""Examples of whole bodies, put together from the examples of their fields."""

from typing import Any

Document = dict[str, Any]
_FALLBACK = {"string": "text", "integer": 1, "number": 1.0, "boolean": False, "null": None}


def add_examples(document: Document, **given: Any) -> None:
    """Gives every JSON answer and request of a document an example, where it has none yet.

    Args:
        document: an OpenAPI document; changed in place.
        given: examples of whole schemas by their names.
    """
    schemas = document["components"]["schemas"]
    for name, example in given.items():
        schemas[name]["examples"] = [example]
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                _add_to_content(answer.get("content", {}), schemas)


def _add_to_content(content: Document, schemas: Document) -> None:
    for media_type, body in content.items():
        if media_type == "application/json" and "example" not in body and "schema" in body:
            body["example"] = compose(body["schema"], schemas)


def compose(schema: Document, schemas: Document) -> Any:
    """An example of a schema: its own, its default, or that of its parts.

    >>> compose({"type": "array", "items": {"type": "integer", "examples": [3]}}, {})
    [3]
    """
    if "$ref" in schema:
        return compose(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    if "enum" in schema:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return compose(schema[name][0], schemas)
    return _compose_type(schema, schemas)


def _compose_type(schema: Document, schemas: Document) -> Any:
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: compose(field, schemas) for name, field in fields.items()}
        case "array":
            return [compose(schema["items"], schemas)]
        case kind:
            return _FALLBACK.get(str(kind))
