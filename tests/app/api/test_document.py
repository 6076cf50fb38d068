"""The OpenAPI document: committed, complete, and with examples that are true."""

import json
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.document import openapi_document
from app.api.routers import (
    catalog,
    endpoints,
    explain_runs,
    explanations,
    features,
    harvests,
    jobs,
)
from app.openapi import openapi_text

COMMITTED = Path(__file__).parents[3] / "openapi.json"
DOCUMENT = openapi_document()
OPERATIONS = {
    f"{method} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
SCHEMAS = DOCUMENT["components"]["schemas"]
ROUTERS = (catalog, endpoints, explain_runs, explanations, features, harvests, jobs)
ROUTES = [
    route
    for module in ROUTERS
    for route in module.router.routes
    if isinstance(route, APIRoute) and issubclass(route.response_model or object, BaseModel)
]


def test_the_committed_document_is_the_codes_own():
    regenerate = "regenerate with: make openapi"
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), regenerate


def test_every_operation_has_a_name_of_its_own():
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def named_in(part):
    """Names of the schemas that a part of the document refers to, and that they refer to."""
    text = json.dumps(part)
    direct = {name for name in SCHEMAS if f'"#/components/schemas/{name}"' in text}
    return direct.union(*(named_in(SCHEMAS[name]) for name in direct))


def test_no_body_has_fields_that_are_silently_left_out():
    bodies = [part["requestBody"] for part in OPERATIONS.values() if "requestBody" in part]
    sent = {name for name in named_in(bodies) if SCHEMAS[name].get("type") == "object"}
    assert "EndpointSettings" in sent
    assert [n for n in sorted(sent) if SCHEMAS[n].get("additionalProperties") is not False] == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described_with_its_errors_and_an_example(name):
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert "503" in operation["responses"]
    for status, answer in operation["responses"].items():
        for media_type, body in answer.get("content", {}).items():
            assert body.get("example") is not None, f"{status} {media_type}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_has_words_and_an_example(name):
    for parameter in OPERATIONS[name].get("parameters", []):
        schema = parameter["schema"]
        shown = parameter.get("description") or schema.get("description")
        assert shown, parameter["name"]
        assert "examples" in schema or "enum" in schema or "$ref" in schema, parameter["name"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_and_field_has_words(name):
    schema = SCHEMAS[name]
    if name == "JsonValue":  # any JSON at all
        return
    assert schema.get("description"), name
    for field, body in schema.get("properties", {}).items():
        assert body.get("description") or "$ref" in body or "const" in body or "items" in body, (
            field
        )


def test_every_error_has_the_one_shape():
    for name, operation in OPERATIONS.items():
        for status, answer in operation["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, f"{name} {status}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.name} {route.path}")
def test_the_example_of_an_answer_is_a_valid_answer(route):
    (method,) = route.methods
    answers = DOCUMENT["paths"][f"/api/v1{route.path}"][method.lower()]["responses"]
    body = answers[str(int(route.status_code or 200))]["content"]["application/json"]
    route.response_model.model_validate_json(json.dumps(body["example"]))
