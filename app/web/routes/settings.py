"""Theme and language, kept in cookies."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.web import i18n, render

router = APIRouter()

YEAR_SECONDS = 365 * 24 * 3600


@router.post("/settings")
def change(
    request: Request,
    theme: Annotated[str | None, Form()] = None,
    lang: Annotated[str | None, Form()] = None,
    back: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Keeps what was chosen and returns to the page."""
    response = RedirectResponse(render.local_path(back), 303)
    chosen = {"theme": (theme, render.THEMES), "lang": (lang, i18n.LANGUAGES)}
    for name, (value, known) in chosen.items():
        if value in known:
            response.set_cookie(
                name,
                str(value),
                max_age=YEAR_SECONDS,
                httponly=True,
                samesite="lax",
                secure=request.url.scheme == "https",
            )
    return response
