"""Files: lists, single features, and whole SAEs in other tools' formats."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from app.api.answers import failures
from app.api.params import (
    MAX_ID,
    FeatureDep,
    FeatureQueryDep,
    HarvestQuery,
    ModelIdPath,
    SaeIdPath,
)
from app.deps import ResourcesDep, SessionDep
from app.downloads import download
from app.services.drift import change_export
from app.services.features import export, peer_export
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.services.features.peer_export import PeerFormat

router = APIRouter(prefix="/models/{model_id}/saes/{sae_id}", tags=["exports"])

_LIST_LINE = (
    '{"feature":"smollm2-135m-instruct/15-demo-res-4k/2511","harvest_id":3,"index":2511,'
    '"density":0.0031,"n_active":923,"n_contexts":310,"max_activation":14.25,'
    '"mean_activation":3.01,"peak_token_id":7471,"peak_token":" sorry","promoted":[" sorry"],'
    '"label":"apologies","note":null,"tags":["tone"]}\n'
)
_CONTEXT_LINE = (
    '{"feature":"smollm2-135m-instruct/15-demo-res-4k/2511","harvest_id":3,"context_index":1004,'
    '"band":"top","source":"python-docs","document":87,"start":254,"token_ids":[1,7471],'
    '"tokens":["<|im_start|>"," sorry"],"tokens_hex":["3c7c696d5f73746172747c3e","20736f727279"],'
    '"activations":[0.0,14.25]}\n'
)
FormPath = Annotated[ExportFormat, Path(description="jsonl, json or csv.", examples=["jsonl"])]


def _file(media_type: str, example: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI answer of a file."""
    content = {media_type: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": "The file, streamed.", "content": content}}


@router.get(
    "/features.{form}",
    response_class=StreamingResponse,
    responses=_file("application/x-ndjson", _LIST_LINE) | failures(404, 422),
)
def export_features(
    resources: ResourcesDep,
    model_id: ModelIdPath,
    sae_id: SaeIdPath,
    form: FormPath,
    query: FeatureQueryDep,
    harvest: HarvestQuery = None,
) -> StreamingResponse:
    """Every feature that matches the filters of the list, in its order; `limit` is ignored."""
    pieces = export.list_export(
        resources.scope,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=harvest,
        query=query,
        form=form,
    )
    return download(pieces, name=f"{model_id}_{sae_id}.{form}", media_type=MEDIA_TYPES[form])


@router.get(
    "/features/{index}.{form}",
    response_class=StreamingResponse,
    responses=_file("application/x-ndjson", _CONTEXT_LINE) | failures(404, 422),
)
def export_feature(
    session: SessionDep,
    feature: FeatureDep,
    form: FormPath,
    harvest: HarvestQuery = None,
    include_random: Annotated[
        bool, Query(description="Also the contexts drawn from the corpus.", examples=[False])
    ] = False,
    run: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_ID,
            description="Job of an alignment run: adds its model's activations and their changes, "
            "on the contexts of the harvest that it was measured on.",
            examples=[11],
        ),
    ] = None,
) -> StreamingResponse:
    """Every stored context of a feature: exact bytes of the tokens, all activations."""
    if run is None:
        pieces = export.feature_export(
            session, feature=feature, harvest_id=harvest, include_random=include_random, form=form
        )
    else:
        pieces = change_export.change_export(
            session, feature=feature, run=run, include_random=include_random, form=form
        )
    name = str(feature).replace("/", "_")
    return download(pieces, name=f"{name}.{form}", media_type=MEDIA_TYPES[form])


@router.get(
    "/export/saedashboard/batch-{batch}.json",
    response_class=Response,
    responses=_file("application/json", '{"model_id":"gemma-2-2b","features":[]}')
    | failures(404, 422),
)
def export_dashboard_batch(
    session: SessionDep,
    model_id: ModelIdPath,
    sae_id: SaeIdPath,
    batch: Annotated[
        int, Path(ge=0, le=100_000, description="Number of the batch, from 0.", examples=[0])
    ],
    harvest: HarvestQuery = None,
) -> Response:
    """128 features as SAEDashboard's batch-N.json."""
    body = peer_export.dashboard_batch(
        session, model_id=model_id, sae_id=sae_id, batch=batch, harvest_id=harvest
    )
    return Response(body, media_type="application/json")


@router.get(
    "/export/{form}.jsonl",
    response_class=StreamingResponse,
    responses=_file("application/x-ndjson", '{"modelId":"gemma-2-2b","source":"12-x"}\n')
    | failures(404, 422),
)
def export_neuronpedia(
    resources: ResourcesDep,
    model_id: ModelIdPath,
    sae_id: SaeIdPath,
    form: Annotated[
        PeerFormat,
        Path(
            description="neuronpedia-upload: bodies for its feature/upload-batch; "
            "neuronpedia-features, neuronpedia-activations, neuronpedia-explanations (names that "
            "people gave): lines of its bulk files.",
            examples=["neuronpedia-upload"],
        ),
    ],
    harvest: HarvestQuery = None,
) -> StreamingResponse:
    """A whole SAE in a format that Neuronpedia reads."""
    pieces = peer_export.peer_export(
        resources.scope, model_id=model_id, sae_id=sae_id, harvest_id=harvest, form=form
    )
    return download(
        pieces, name=f"{model_id}_{sae_id}_{form}.jsonl", media_type=MEDIA_TYPES[ExportFormat.JSONL]
    )
