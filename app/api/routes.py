"""The API's router: every operation under /api/v1, and the addresses of others."""

from fastapi import APIRouter

from app.api.routers import catalog, exports, features, harvests, jobs, neuronpedia

_VERSIONED = APIRouter(prefix="/api/v1")
for _router in (catalog.router, exports.router, features.router, harvests.router, jobs.router):
    _VERSIONED.include_router(_router)

api_router = APIRouter()
api_router.include_router(_VERSIONED)
api_router.include_router(neuronpedia.router)
