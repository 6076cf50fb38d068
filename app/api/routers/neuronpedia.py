"""Addresses that programs written for Neuronpedia ask."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.api.answers import failures
from app.api.params import HarvestQuery, IndexPath, ModelIdPath, SaeIdPath
from app.deps import SessionDep
from app.services.features import peer_export
from core.domain.ids import FeatureId

router = APIRouter(prefix="/api", tags=["compatibility"])

_EXAMPLE = {"modelId": "gemma-2-2b", "layer": "12-gemmascope-res-16k", "index": "8437"}


@router.get(
    "/feature/{model_id}/{layer}/{index}",
    response_class=Response,
    responses={
        200: {
            "description": "The feature, in Neuronpedia's words.",
            "content": {"application/json": {"example": _EXAMPLE, "schema": {"type": "object"}}},
        },
        **failures(404, 422),
    },
)
def get_feature(
    session: SessionDep,
    model_id: ModelIdPath,
    layer: Annotated[SaeIdPath, Path(description="Id of an SAE of the model.")],
    index: IndexPath,
    harvest: HarvestQuery = None,
) -> Response:
    """A feature as Neuronpedia answers it, for programs that read that form."""
    feature = FeatureId(model_id=model_id, sae_id=layer, index=index)
    body = peer_export.neuronpedia_feature(session, feature=feature, harvest_id=harvest)
    return Response(body, media_type="application/json")
