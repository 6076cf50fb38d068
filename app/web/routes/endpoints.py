"""Endpoints of language models: the list, the form of one, its test, forgetting it."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.deps import Resources, ResourcesDep, SessionDep
from app.services.explain import endpoints
from app.services.problems import FieldProblem, FieldsInvalid
from app.web import endpoint_form, render
from app.web.endpoint_form import EndpointForm
from app.web.i18n import gettext
from app.web.routes.jobs import PostedDep
from core.domain.views_explain import EndpointCard
from core.errors import Conflict, ExternalError, Invalid, SparsightError

router = APIRouter(prefix="/endpoints")

SECTION = "explanations"
EndpointId = Annotated[int, Path(ge=1, lt=2**31)]


@router.get("")
def list_endpoints(request: Request, session: SessionDep) -> Response:
    """Every endpoint with what it can do."""
    return render.page(
        request,
        "endpoints/list.html",
        section=SECTION,
        endpoints=endpoints.list_endpoints(session),
        presets=endpoint_form.PRESETS,
    )


@router.get("/new")
def new(request: Request, preset: str = "") -> Response:
    """The form of a new endpoint, filled for a common server where one is named."""
    return _new_page(request, endpoint_form.from_preset(preset), preset=preset)


@router.post("")
def add(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """Keeps an endpoint, or shows the form again with what has to be mended."""
    form = endpoint_form.from_post(posted)
    try:
        settings = endpoints.check(form.values())
        card = endpoints.add(session, resources.keys, settings, api_key=form.api_key)
    except (FieldsInvalid, Conflict) as error:
        return _new_page(request, form.with_problems(_problems(error)), status=422)
    return render.redirect(request, _after_saving(card, posted))


@router.get("/{endpoint_id}")
def show(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    endpoint_id: EndpointId,
    test: str = "",
) -> Response:
    """One endpoint: its settings, and what its server can do; the page tests it if asked to."""
    card = endpoints.get_endpoint(session, endpoint_id)
    form = endpoint_form.from_card(card)
    return _show_page(request, resources, card, form, testing=test == "1")


@router.post("/{endpoint_id}")
def change(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    endpoint_id: EndpointId,
    posted: PostedDep,
) -> Response:
    """Keeps new settings, or shows the form again with what has to be mended."""
    form = endpoint_form.from_post(posted)
    try:
        card = endpoints.change(
            session,
            resources.keys,
            endpoint_id,
            endpoints.check(form.values()),
            api_key=form.api_key,
            forget_key=form.forget_key,
        )
    except (FieldsInvalid, Conflict) as error:
        before = endpoints.get_endpoint(session, endpoint_id)
        broken = form.with_problems(_problems(error))
        return _show_page(request, resources, before, broken, status=422)
    return render.redirect(request, _after_saving(card, posted))


@router.post("/{endpoint_id}/test")
async def test(request: Request, resources: ResourcesDep, endpoint_id: EndpointId) -> Response:
    """Finds out what the server can do by a handful of short questions, and tells it in words."""
    card = await asyncio.to_thread(_read, resources, endpoint_id)
    card, problem = await _test(resources, card)
    if render.is_partial(request):
        return render.part(
            request,
            "endpoints/_abilities.html",
            instead=f"/endpoints/{endpoint_id}",
            toast=_told(card) if problem is None else None,
            card=card,
            problem=problem,
            testing=False,
        )
    if problem is None:
        return render.redirect(request, f"/endpoints/{endpoint_id}")
    form = endpoint_form.from_card(card)
    return _show_page(request, resources, card, form, problem=problem, status=502)


@router.post("/{endpoint_id}/delete")
def delete(request: Request, session: SessionDep, endpoint_id: EndpointId) -> Response:
    """Forgets an endpoint and its key; what it explained and scored stays."""
    endpoints.delete(session, endpoint_id)
    return render.redirect(request, "/endpoints")


async def _test(
    resources: Resources, card: EndpointCard
) -> tuple[EndpointCard, SparsightError | None]:
    """The endpoint as the test left it, and what went wrong."""
    try:
        found = await endpoints.probe_endpoint(resources.scope, resources.keys, card.endpoint_id)
    except (ExternalError, Invalid) as error:
        return card, error
    return found, None


def _told(card: EndpointCard) -> str:
    """What a test found, in a sentence."""
    if card.abilities is not None and card.abilities.usable:
        return gettext("The connection works.")
    return gettext("The server answers, but not as a language model.")


def _read(resources: Resources, endpoint_id: int) -> EndpointCard:
    with resources.scope() as session:
        return endpoints.get_endpoint(session, endpoint_id)


def _after_saving(card: EndpointCard, posted: list[tuple[str, str]]) -> str:
    wanted = dict(posted).get("action") == "test"
    return f"/endpoints/{card.endpoint_id}?test=1" if wanted else f"/endpoints/{card.endpoint_id}"


def _problems(error: FieldsInvalid | Conflict) -> tuple[FieldProblem, ...]:
    if isinstance(error, FieldsInvalid):
        return error.problems
    return (FieldProblem.of("name", error),)


def _new_page(
    request: Request, form: EndpointForm, *, preset: str = "", status: int = 200
) -> Response:
    return render.page(
        request,
        "endpoints/new.html",
        section=SECTION,
        status=status,
        form=form,
        card=None,
        preset=preset,
        presets=endpoint_form.PRESETS,
    )


def _show_page(
    request: Request,
    resources: Resources,
    card: EndpointCard,
    form: EndpointForm,
    *,
    problem: SparsightError | None = None,
    testing: bool = False,
    status: int = 200,
) -> Response:
    return render.page(
        request,
        "endpoints/show.html",
        section=SECTION,
        status=status,
        card=card,
        form=form,
        key_problem=endpoints.key_problem(resources.keys, card),
        problem=problem,
        testing=testing,
    )
