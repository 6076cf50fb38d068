"""The pages as a whole: what the app adds to itself to have them."""

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.web import render
from app.web.middleware import EtagMiddleware, LocaleMiddleware, SecurityHeadersMiddleware
from app.web.routes import (
    align,
    align_new,
    align_results,
    api_reference,
    endpoints,
    explain_runs,
    explaining,
    explanations,
    features,
    harvests,
    home,
    jobs,
    labels,
    preferences,
    settings,
    tagging,
    tags,
)


class ForeverFiles(StaticFiles):
    """Static files whose address changes with their content, so that they never expire."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        response = await super().get_response(path, scope)
        if response.status_code in {200, 304}:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def add_pages(app: FastAPI) -> None:
    """Adds pages, static files and their middleware; call it after the API's routes are in.

    The last router holds ``/{model_id}/…``, which would catch any other address.
    """
    app.mount(f"/static/{render.static_hash()}", ForeverFiles(directory=render.STATIC))
    for routes in (
        home,
        settings,
        api_reference,
        harvests,
        jobs,
        preferences,
        align_new,
        align,
        align_results,
        endpoints,
        explain_runs,
        explanations,
        explaining,
        tags,
        tagging,
        labels,
        features,
    ):
        app.include_router(routes.router, include_in_schema=False)
    app.add_middleware(LocaleMiddleware)
    app.add_middleware(EtagMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(GZipMiddleware, minimum_size=800, compresslevel=6)
