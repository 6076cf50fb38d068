"""The REST API as a page: what can be asked, and how."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.web import api_reference, render

router = APIRouter()

SECTION = "api"


@router.get("/api")
def show(request: Request) -> Response:
    """Every operation with its parameters, a command to paste, and an example of the answer."""
    document = request.app.state.api_document()  # the API's own, put there when the app is made
    return render.page(
        request,
        "api/show.html",
        section=SECTION,
        about=api_reference.about(document["info"]["description"]),
        subjects=api_reference.subjects(document, base_url=str(request.base_url)),
    )
