"""The API's router: every operation under /api/v1, and the addresses of others."""

from http import HTTPStatus
from typing import NoReturn

from fastapi import APIRouter, FastAPI, HTTPException, Request
from starlette.routing import Match

from app.api.routers import (
    alignments,
    catalog,
    contrasts,
    drifts,
    endpoints,
    explain_runs,
    explanations,
    exports,
    features,
    harvests,
    jobs,
    labels,
    neuronpedia,
    preference_sets,
)

_VERSIONED = APIRouter(prefix="/api/v1")
for _module in (
    catalog,
    exports,
    features,
    explanations,
    labels,
    harvests,
    explain_runs,
    preference_sets,
    contrasts,
    alignments,
    drifts,
    endpoints,
    jobs,
):
    _VERSIONED.include_router(_module.router)

api_router = APIRouter()
api_router.include_router(_VERSIONED)
api_router.include_router(neuronpedia.router)

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def add_api(app: FastAPI) -> None:
    """Adds every operation, and an end: no address under /api ever reaches the pages."""
    app.include_router(api_router)
    app.add_api_route(
        "/api/{rest:path}",
        _nothing_here,
        methods=[*_METHODS],
        include_in_schema=False,
        response_model=None,
    )


def _nothing_here(request: Request) -> NoReturn:
    """Says that an address is not there, or that it takes other methods."""
    allowed = [method for method in _METHODS if _is_taken(request, method)]
    if allowed:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(allowed)})
    raise HTTPException(HTTPStatus.NOT_FOUND)


def _is_taken(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in api_router.routes)
