"""Deleting a harvest, after a question."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.deps import ResourcesDep, SessionDep
from app.services.features import catalog
from app.services.harvest import deletion as harvest_deletion
from app.web import render

router = APIRouter(prefix="/harvests")

SECTION = "features"
HarvestId = Annotated[int, Path(ge=1, le=2**62)]


@router.get("/{harvest_id}/delete")
def ask(request: Request, session: SessionDep, harvest_id: HarvestId) -> Response:
    """What would be lost, and the button that does it."""
    harvest = catalog.get_harvest(session, harvest_id)
    return render.page(
        request, "home/delete.html", section=SECTION, harvest=harvest, going_on=False
    )


@router.post("/{harvest_id}/delete")
def delete(request: Request, resources: ResourcesDep, harvest_id: HarvestId) -> Response:
    """Deletes it; back to its model, or a page that says that it takes longer."""
    with resources.scope() as session:
        harvest = catalog.get_harvest(session, harvest_id)
    if harvest_deletion.delete_soon(resources.scope, harvest_id):
        return render.redirect(request, f"/{harvest.model_id}")
    return render.page(
        request, "home/delete.html", section=SECTION, status=202, harvest=harvest, going_on=True
    )
