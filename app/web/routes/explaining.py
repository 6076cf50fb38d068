"""Explaining and scoring one feature while somebody watches; with or without a script."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from app.deps import Resources, ResourcesDep, SessionDep
from app.services.explain import endpoints, explanations
from app.services.explain import estimate as explain_estimate
from app.services.explain import live as explain_live
from app.services.explain import runs as explain_runs
from app.services.explain.estimate import RunEstimate
from app.services.explain.live import LiveKind, LiveStep
from app.services.explain.runs import Preview
from app.services.features import catalog, features
from app.services.problems import FieldProblem, FieldsInvalid
from app.web import explain_form, explain_words, forms, i18n, render, rows
from app.web.explain_form import TABLE, ExplainForm
from app.web.i18n import gettext
from app.web.render import Here
from app.web.routes.jobs import PostedDep
from core.db.session import Session
from core.domain.explain_job import ExplainerSetting, ExplainSpec
from core.domain.explanation import EvidenceStyle
from core.domain.ids import FeatureId
from core.domain.views_explain import EndpointCard, ExplanationCard
from core.errors import Invalid, NotFound

router = APIRouter()

SECTION = "features"
PLACE = "/{model_id}/{sae_id}/{index}/explain"


def feature_of(model_id: str, sae_id: str, index: forms.IndexPath) -> FeatureId:
    """The feature that an address names."""
    return FeatureId(model_id=model_id, sae_id=sae_id, index=index)


FeatureDep = Annotated[FeatureId, Depends(feature_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StylePreview:
    """What an explainer would be sent in one style, or why nothing can be sent."""

    style: EvidenceStyle
    preview: Preview | None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done, checked.

    Attributes:
        form: as sent; with what has to be mended.
        spec: None when the form has to be mended.
    """

    form: ExplainForm
    spec: ExplainSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """How far a run of steps is.

    Attributes:
        doing: what is under way, in words.
    """

    running: bool
    doing: str = ""
    n_made: int = 0
    n_failed: int = 0


@router.get(PLACE)
def form_page(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """The form, with the prompts where they are asked for."""
    params = request.query_params
    context = _context(session, feature, params)
    previews = _previews(session, feature, context["form"], params) if "preview" in params else None
    return render.page(
        request,
        "explanation/explain.html",
        section=SECTION,
        previews=previews,
        steps=None,
        **context,
    )


@router.get(f"{PLACE}/preview")
def preview(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """The exact messages that would be sent, as a fragment."""
    form = explain_form.from_fields(
        request.query_params.multi_items(), endpoints.list_endpoints(session)
    )
    found = _previews(session, feature, form, request.query_params)
    return render.page(request, "explanation/_preview.html", form=form, previews=found)


@router.get(f"{PLACE}/estimate")
def estimate(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """What the choices in the form cost at most, as a fragment."""
    order = _order(session, feature, request.query_params)
    return render.page(request, "explanation/_estimate.html", **_costs(session, order))


def posted_order(resources: ResourcesDep, feature: FeatureDep, posted: PostedDep) -> Order:
    """What a sent form asks for; no session stays open."""
    with resources.scope() as session:
        return _order(session, feature, QueryParams(posted))


OrderDep = Annotated[Order, Depends(posted_order)]


@router.post(PLACE)
async def explain(
    request: Request,
    resources: ResourcesDep,
    feature: FeatureDep,
    posted: PostedDep,
    order: OrderDep,
) -> Response:
    """Does all that is asked for, then shows every step; for browsers without scripts."""
    steps = [step async for step in _steps(resources, order)]

    def show() -> Response:
        with resources.scope() as session:
            context = _context(session, feature, QueryParams(posted))
            return render.page(
                request,
                "explanation/explain.html",
                section=SECTION,
                status=200 if order.spec else 422,
                previews=None,
                steps=steps if order.spec else None,
                live=_state(steps),
                **context,
            )

    return await anyio.to_thread.run_sync(show)


@router.post(f"{PLACE}/live", response_class=EventSourceResponse)
async def live(
    request: Request, resources: ResourcesDep, order: OrderDep
) -> AsyncIterator[ServerSentEvent]:
    """Each step as it happens, as fragments for htmx."""
    here = render.here(request, section=SECTION)
    async for html in live_fragments(resources, order, here=here):
        yield ServerSentEvent(raw_data=html)


async def live_fragments(resources: Resources, order: Order, *, here: Here) -> AsyncIterator[str]:
    """The result's part of the page, step by step, in the reader's language."""

    def fragment(live: LiveState, step: LiveStep | None = None, **more: object) -> str:
        i18n.current.set(here.lang)
        context = {"here": here, "live": live, "step": step, "begins": False, "problems": ()}
        return render.fragment("explanation/_live.html", {**context, **more})

    if order.spec is None:
        yield fragment(LiveState(running=False, n_failed=1), problems=order.form.problems)
        return
    yield fragment(LiveState(running=True, doing=_doing(None)), begins=True)
    seen: list[LiveStep] = []
    async with aclosing(_steps(resources, order)) as steps:
        async for step in steps:
            seen.append(step)
            yield fragment(LiveState(running=True, doing=_doing(step)), step)
            if resources.stopping.is_set():
                return
    yield fragment(_state(seen))


async def _steps(resources: Resources, order: Order) -> AsyncGenerator[LiveStep]:
    if order.spec is None:
        return
    running = explain_live.explain_live(
        resources.scope, resources.keys, order.spec, only=order.form.score
    )
    async with aclosing(running):
        async for step in running:
            yield step


def _state(steps: list[LiveStep]) -> LiveState:
    made = sum(step.kind in {LiveKind.EXPLAINED, LiveKind.SCORED} for step in steps)
    failed = sum(step.kind is LiveKind.FAILED for step in steps)
    return LiveState(running=False, n_made=made, n_failed=failed)


def _doing(step: LiveStep | None) -> str:
    if step is None:
        return gettext("reading contexts")
    if step.kind is LiveKind.ASKED:
        return gettext("waiting for an answer")
    if step.kind is LiveKind.CHOOSING:
        return gettext("comparing explanations")
    if step.kind is LiveKind.TESTING and step.test is not None:
        return gettext("testing: %(kind)s") % {"kind": explain_words.kind_word(step.test)}
    return gettext("working")


def _context(session: Session, feature: FeatureId, params: QueryParams) -> dict[str, Any]:
    harvest_id = forms.harvest_choice(params)
    order = _order(session, feature, params)
    page = features.feature_page(session, feature=feature, harvest_id=harvest_id)
    offered = endpoints.list_endpoints(session)
    return {
        "feature": feature,
        "page": page,
        "vocabulary": catalog.page_vocabulary(session, page),
        "peaks": rows.peak_tokens(page),
        "suffix": forms.harvest_suffix(harvest_id),
        "harvest": harvest_id,
        "endpoints": offered,
        "offers": _offers(offered),
        "embedders": _named(explain_form.embedders(offered)),
        "scored": _scored(session, feature, order.form),
        **_costs(session, order),
    }


def _offers(cards: tuple[EndpointCard, ...]) -> list[tuple[str, str]]:
    return [*_named(cards), (TABLE, gettext("token lookup table, offline (baseline)"))]


def _named(cards: tuple[EndpointCard, ...]) -> list[tuple[str, str]]:
    return [(str(card.endpoint_id), f"{card.name} · {card.model}") for card in cards]


def _order(session: Session, feature: FeatureId, params: QueryParams) -> Order:
    form = explain_form.from_fields(params.multi_items(), endpoints.list_endpoints(session))
    card = _scored(session, feature, form)
    missing = form.missing()
    if missing:
        return Order(form=replace(form, problems=missing), spec=None)
    values = {
        "model_id": feature.model_id,
        "sae_id": feature.sae_id,
        "features": {"by": "list", "indices": [feature.index]},
        "harvest_id": _harvest(card) or forms.harvest_choice(params),
        "explainer": None if card else form.explainer(),
        "scorer": form.scorer(card),
        "seed": form.typed["seed"],
    }
    try:
        return Order(form=form, spec=explain_runs.check(session, values))
    except FieldsInvalid as error:
        problems = tuple(_of_form(problem) for problem in error.problems)
        return Order(form=replace(form, problems=problems), spec=None)


def _harvest(card: ExplanationCard | None) -> int | None:
    """The harvest on which an explanation is scored: that from which it was made."""
    return None if card is None else card.harvest_id


def _of_form(problem: FieldProblem) -> FieldProblem:
    """A problem of the settings as one of the form's field of the same name."""
    name = problem.path.rsplit(".", 1)[-1]
    return replace(problem, path={"endpoint_id": "by", "": "kinds"}.get(name, name))


def _scored(session: Session, feature: FeatureId, form: ExplainForm) -> ExplanationCard | None:
    if form.score is None:
        return None
    card = explanations.get_explanation(session, form.score).card
    if card.feature != feature or card.superseded_by is not None:
        raise NotFound(
            f"{feature} has no present explanation {form.score}.",
            hint="It may have been edited: score the present text.",
        )
    return card


def _costs(session: Session, order: Order) -> dict[str, Any]:
    """The estimate of an order; none while its form has to be mended."""
    found: RunEstimate | None = None
    n_scores = 0
    if order.spec is not None:
        found = explain_estimate.estimate(session, order.spec)
        n_scores = found.n_scores
        scorer = order.spec.scorer
        if order.form.score is not None and scorer is not None and n_scores:
            share = len(scorer.kinds) / n_scores  # of all that are there, this one alone
            found = replace(found, total=found.total.times(share))
            n_scores = len(scorer.kinds)
    return {"form": order.form, "estimate": found, "n_scores": n_scores}


def _previews(
    session: Session, feature: FeatureId, form: ExplainForm, params: QueryParams
) -> list[StylePreview]:
    """Prompts of every chosen style; none when no style is chosen."""
    if not form.styles:
        return []
    try:
        setting = ExplainerSetting.model_validate(form.explainer())
    except ValidationError:
        message = gettext("A number in the form has to be mended first.")
        return [StylePreview(style=EvidenceStyle.RECORDS, preview=None, problem=message)]
    found = []
    for name in form.styles:
        style = EvidenceStyle(name)
        try:
            shown = explain_runs.preview(
                session,
                feature,
                style=style,
                setting=setting,
                harvest_id=forms.harvest_choice(params),
            )
        except Invalid as error:
            found.append(StylePreview(style=style, preview=None, problem=str(error)))
        else:
            found.append(StylePreview(style=style, preview=shown))
    return found
