"""Endpoints of language models: kept, tested, forgotten."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.api.answers import failures
from app.api.params import MAX_ID
from app.api.schemas.endpoints import ChangedEndpoint, EndpointBody, EndpointList, NewEndpoint
from app.deps import ResourcesDep, SessionDep
from app.services.explain import endpoints

router = APIRouter(prefix="/endpoints", tags=["endpoints"])

EndpointIdPath = Annotated[
    int, Path(ge=1, le=MAX_ID, description="Number of the endpoint.", examples=[1])
]


@router.get("", responses=failures())
def list_endpoints(session: SessionDep) -> EndpointList:
    """Every endpoint, by name; never a key."""
    found = endpoints.list_endpoints(session)
    return EndpointList(endpoints=[EndpointBody.of(card) for card in found])


@router.post("", status_code=HTTPStatus.CREATED, responses=failures(409, 422))
def add_endpoint(
    session: SessionDep, resources: ResourcesDep, body: NewEndpoint, response: Response
) -> EndpointBody:
    """Keeps an endpoint; its key is encrypted and never comes back out."""
    card = endpoints.add(session, resources.keys, body.settings, api_key=body.api_key)
    response.headers["Location"] = f"/api/v1/endpoints/{card.endpoint_id}"
    return EndpointBody.of(card)


@router.get("/{endpoint_id}", responses=failures(404, 422))
def get_endpoint(session: SessionDep, endpoint_id: EndpointIdPath) -> EndpointBody:
    """One endpoint."""
    return EndpointBody.of(endpoints.get_endpoint(session, endpoint_id))


@router.put("/{endpoint_id}", responses=failures(404, 409, 422))
def change_endpoint(
    session: SessionDep, resources: ResourcesDep, endpoint_id: EndpointIdPath, body: ChangedEndpoint
) -> EndpointBody:
    """Replaces an endpoint's settings. Its stored key stays, unless the address changes."""
    card = endpoints.change(
        session,
        resources.keys,
        endpoint_id,
        body.settings,
        api_key=body.api_key,
        forget_key=body.forget_key,
    )
    return EndpointBody.of(card)


@router.delete("/{endpoint_id}", status_code=HTTPStatus.NO_CONTENT, responses=failures(404, 422))
def delete_endpoint(session: SessionDep, endpoint_id: EndpointIdPath) -> None:
    """Forgets an endpoint and its key; what it explained and scored stays."""
    endpoints.delete(session, endpoint_id)


@router.post("/{endpoint_id}/test", responses=failures(404, 422, 502))
async def test_endpoint(resources: ResourcesDep, endpoint_id: EndpointIdPath) -> EndpointBody:
    """Asks a handful of short questions and finds out, by the answers, what the server can do."""
    return EndpointBody.of(
        await endpoints.probe_endpoint(resources.scope, resources.keys, endpoint_id)
    )
