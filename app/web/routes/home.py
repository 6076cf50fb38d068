"""Models and their SAEs, and finding one's way to a feature."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.deps import SessionDep
from app.services.features import catalog
from app.services.jobs import jobs
from app.web import render
from core.domain.ids import FeatureId
from core.domain.views import ModelCard
from core.errors import Invalid

router = APIRouter()

SECTION = "features"


@router.get("/")
def home(request: Request, session: SessionDep) -> Response:
    """Every model with its SAEs; with a harvest under way while there is none."""
    models = catalog.list_models(session)
    active = tuple(job for job in jobs.list_jobs(session, limit=20) if job.active)
    return render.page(
        request,
        "home/show.html",
        partial="home/_models.html",
        section=SECTION,
        models=models,
        said=catalog.count_said(session),
        active_jobs=active,
    )


@router.get("/go")
def go(
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=300)] = "",
    origin: Annotated[str, Query(alias="from", max_length=300)] = "/",
) -> Response:
    """From what somebody typed to a feature: a number, an id, a token or words to look for."""
    return render.redirect(
        request, destination(q.strip(), origin=origin, models=catalog.list_models(session))
    )


def destination(text: str, *, origin: str, models: tuple[ModelCard, ...]) -> str:
    """Where a jump leads: all but ids stay in the SAE of the page it starts from.

    One word is looked for among peak tokens, several in explanations.
    """
    try:
        return f"/{FeatureId.parse(text.strip('/'))}"
    except Invalid:
        pass
    sae = _sae_of(origin, models)
    if sae is None or not text:
        return "/"
    if re.fullmatch(r"[0-9]{1,9}", text):
        return f"{sae}/{text}"
    return render.with_query(sae, [("words" if len(text.split()) > 1 else "token", text)])


def _sae_of(origin: str, models: tuple[ModelCard, ...]) -> str | None:
    known = [f"/{model.model_id}/{sae.sae_id}" for model in models for sae in model.saes]
    parts = origin.split("/")
    here = "/".join(parts[:3])
    if here in known:
        return here
    same_model = [path for path in known if path.startswith(f"/{parts[1]}/")] if parts[1:] else []
    return next(iter(same_model or known), None)
