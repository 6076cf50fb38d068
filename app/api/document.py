"""The API's own description, as OpenAPI."""

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from app.api.errors import ErrorBody
from app.api.examples import add_examples
from app.api.routes import api_router
from app.services.harvest.harvests import get_preset
from core.domain.align_preset import load_align_preset

_DESCRIPTION = """Features of sparse autoencoders over language models: lists, pages, contexts,
exports, and the jobs that make them.

* Lists come in pages: `next_after` and `previous_after`, sent back as `after`, give the pages
  beside one; lists that begin with the newest go on with `next_before`, sent back as `before`.
* Numbers of a feature are always those of one harvest: the newest finished one, or `?harvest=`.
* Activations are in the SAE's own units; densities are shares of scored tokens.
* Every error has the same body: `error` with `code`, `message`, `hint`, `fields`, `request_id`.
* Browsers may change things from this site's own pages only; programs need nothing special.
"""
_TAGS = [
    {"name": "catalog", "description": "Models, SAEs, vocabularies."},
    {"name": "features", "description": "What each feature did over a corpus."},
    {"name": "explanations", "description": "What features mean, with scores and their floors."},
    {"name": "labels", "description": "What people call features; tags, which are lists."},
    {"name": "runs", "description": "Many features explained and scored, at a known cost."},
    {"name": "endpoints", "description": "Language models that explain and score; keys stay in."},
    {"name": "exports", "description": "Features as files, also in other tools' formats."},
    {"name": "harvests", "description": "Passes over a corpus: made, costed, started, deleted."},
    {"name": "alignment", "description": "Preferences, contrasts, runs, and what moved in them."},
    {"name": "jobs", "description": "Work in progress: watched, cancelled, resumed."},
    {"name": "compatibility", "description": "Addresses that programs for other tools ask."},
]


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of every operation of the API, without the pages."""
    app = FastAPI(
        title="Sparsight",
        version=version("sparsight"),
        summary="Explain, label and align language models with SAE features.",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        generate_unique_id_function=_operation_id,
    )
    app.include_router(api_router)
    document = app.openapi()
    _, errors = models_json_schema(
        [(ErrorBody, "serialization")], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"] |= errors["$defs"]
    add_examples(
        document,
        HarvestSpec=get_preset("demo").spec.model_dump(mode="json"),
        AlignSpec=load_align_preset("demo").model_dump(mode="json"),
    )
    return document


def add_document(app: FastAPI) -> None:
    """Serves the document under /api/v1/openapi.json, and hands it to the page that shows it."""

    def openapi_json() -> JSONResponse:
        return JSONResponse(openapi_document())

    app.add_api_route("/api/v1/openapi.json", openapi_json, include_in_schema=False)
    app.state.api_document = openapi_document


def _operation_id(route: APIRoute) -> str:
    """The function's name; of another tool's address with that tool's."""
    return f"{route.name}_neuronpedia" if "compatibility" in route.tags else route.name
