"""Runs of explanations: the overview with scores spread out, the form of a run, its live page."""

import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from app.deps import ResourcesDep, SessionDep
from app.services.explain import endpoints, explanations
from app.services.explain import estimate as explain_estimate
from app.services.explain import runs as explain_runs
from app.services.explain.estimate import RunEstimate
from app.services.features import catalog
from app.services.jobs import jobs
from app.services.labels import tags
from app.services.problems import FieldProblem, FieldsInvalid, field_problems
from app.web import render, run_form, score_charts, sse
from app.web.i18n import gettext
from app.web.places import JobPlaceDep
from app.web.render import Here
from app.web.routes.jobs import JobId, PostedDep, SeqDep, existing_job
from app.web.run_form import RunForm
from app.web.sse import Look, Tell
from core.db.session import Session
from core.domain.explain_job import ExplainSpec, RunBudget
from core.domain.place import NEWEST, NewestPlace
from core.domain.views import SaeCard
from core.domain.views_explain import EndpointCard
from core.errors import Invalid, NotFound

router = APIRouter(prefix="/explanations")

SECTION = "explanations"
RUNS_SHOWN = 20
FOUND_SHOWN = 25
WRITTEN_SHOWN = 25
_SHARE_OF_TIME = 0.05  # of a stream that is spent on reading the distributions


@router.get("")
def overview(
    request: Request,
    session: SessionDep,
    place: JobPlaceDep,
    q: Annotated[str, Query(max_length=300)] = "",
    model: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Runs, scores by layer and method, and explanations found by words."""
    if render.is_partial(request):
        return _runs_part(request, session, place)
    models = tuple(card.model_id for card in catalog.list_models(session))
    chosen = model if model in models else None
    words = q.strip()
    found = explanations.search(session, words, model_id=chosen, limit=FOUND_SHOWN) if words else ()
    spread = explanations.distributions(session, model_id=chosen)
    return render.page(
        request,
        "explain_runs/overview.html",
        section=SECTION,
        words_asked=words,
        found=found,
        most=FOUND_SHOWN,
        models=models,
        model=chosen,
        groups=score_charts.strip_groups(spread),
        endpoints=endpoints.list_endpoints(session),
        **_runs(session, place),
    )


@router.get("/new")
def new(request: Request, session: SessionDep) -> Response:
    """The form of a new run."""
    asked = _named(session, request.query_params)
    form = run_form.fresh(asked, saes=_saes(session), endpoints=endpoints.list_endpoints(session))
    return _form_page(request, session, form)


def _named(session: Session, asked: QueryParams) -> dict[str, str]:
    """What an address asks for, with the features of a tag or of a list's ticks as numbers.

    Raises:
        Invalid: a tick is no feature, or ticks are of several SAEs.
    """
    found = dict(asked)
    ticked = tags.of_one_sae(asked.getlist("feature"))
    if len(ticked) > 1:
        raise Invalid(
            gettext("These are features of several SAEs."), hint=gettext("Tick those of one.")
        )
    for (model_id, sae_id), indices in ticked.items():
        found |= {"model": model_id, "sae": sae_id, "features": run_form.write_indices(indices)}
    if "tag" in found and "model" in found and "sae" in found:
        borne = tags.bearers(session, found["tag"], model_id=found["model"], sae_id=found["sae"])
        found["features"] = run_form.write_indices(borne)
    return found


@router.post("/new/estimate")
def estimate(request: Request, session: SessionDep, posted: PostedDep) -> Response:
    """What the run in the form will ask and use at most, as a fragment."""
    shown, problems = _estimate(session, run_form.from_post(posted))
    return render.page(
        request,
        "explain_runs/_estimate.html",
        section=SECTION,
        estimate=shown,
        problems=problems,
    )


@router.post("/new")
def submit(request: Request, session: SessionDep, posted: PostedDep) -> Response:
    """Starts a run, or shows the form again with what has to be mended or does not fit."""
    form = run_form.from_post(posted)
    if dict(posted).get("action") == "estimate":
        return _form_page(request, session, form)
    try:
        spec = _check(session, form)
        _refuse_over_budget(session, spec, anyway=form.text("anyway") == "1")
    except FieldsInvalid as error:
        return _form_page(request, session, form.with_problems(error.problems), status=422)
    return render.redirect(request, f"/explanations/runs/{explain_runs.submit(session, spec)}")


@router.get("/runs")
def runs(request: Request) -> Response:
    """The runs stand on the overview."""
    return render.redirect(request, "/explanations#runs")


@router.get("/runs/{job_id}")
def show(request: Request, session: SessionDep, job_id: JobId, place: JobPlaceDep) -> Response:
    """One run: how far it is, what it found and wrote, what failed and what it cost."""
    return _run_page(request, session, job_id, place=place)


@router.get("/runs/{job_id}/live", response_class=EventSourceResponse)
async def live(
    request: Request,
    resources: ResourcesDep,
    job_id: Annotated[int, Depends(existing_job)],
    seq: SeqDep,
    newest: Annotated[bool, Query()] = False,
) -> AsyncIterator[ServerSentEvent]:
    """The run's page as it changes, from the event that the reader saw last.

    With ``newest`` the page shows the newest explanations, and goes on doing so.
    """
    here = render.here(request, section=SECTION)
    tell = run_messages(with_written=newest)
    async for message in sse.job_stream(resources, job_id, seq=seq, here=here, tell=tell):
        yield message


@router.post("/runs/{job_id}/cancel")
def cancel(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """Asks a run to stop; it can go on later."""
    explain_runs.get_run(session, job_id)
    jobs.cancel(session, job_id)
    toast = gettext("The run stops; what is done stays done.")
    return render.told(request, toast, instead=f"/explanations/runs/{job_id}")


@router.post("/runs/{job_id}/resume")
def resume(request: Request, session: SessionDep, job_id: JobId, posted: PostedDep) -> Response:
    """Goes on with a run, under another budget if one is given."""
    typed = dict(posted)
    try:
        budget = _budget(typed) if "with_budget" in typed else None
        explain_runs.resume(session, job_id, budget=budget)
    except FieldsInvalid as error:
        return _run_page(request, session, job_id, form=typed, problems=error.problems, status=422)
    return render.redirect(request, f"/explanations/runs/{job_id}")


def run_messages(*, with_written: bool) -> Tell:
    """What a stream tells of a run; scores and texts as often as reading them is cheap."""
    due = 0.0

    def tell(session: Session, look: Look, here: Here) -> list[ServerSentEvent]:
        nonlocal due
        began = time.monotonic()
        job_id = look.page.card.job_id
        run = explain_runs.get_run(session, job_id)
        with_scores = began >= due or not look.page.card.active
        context = {
            "here": replace(here, path=f"/explanations/runs/{job_id}", query=()),
            "page": look.page,
            "run": run,
            "form": None,
            "problems": (),
            "groups": score_charts.strip_groups(run.distributions) if with_scores else None,
            "place": NEWEST,
            "written": explain_runs.written(session, job_id, place=NEWEST, limit=WRITTEN_SHOWN)
            if with_written and with_scores
            else None,
            "lines": sse.log_lines(look),
        }
        html = render.fragment("explain_runs/_live.html", context)
        if with_scores:
            due = time.monotonic() + (time.monotonic() - began) / _SHARE_OF_TIME
        return [ServerSentEvent(raw_data=html)]

    return tell


def _run_page(
    request: Request,
    session: Session,
    job_id: int,
    *,
    place: NewestPlace = NEWEST,
    form: dict[str, str] | None = None,
    problems: tuple[FieldProblem, ...] = (),
    status: int = 200,
) -> Response:
    run = explain_runs.get_run(session, job_id)
    page = jobs.get_job(session, job_id)
    return render.page(
        request,
        "explain_runs/show.html",
        section=SECTION,
        status=status,
        page=page,
        run=run,
        form=form,
        problems=problems,
        place=place,
        written=explain_runs.written(session, job_id, place=place, limit=WRITTEN_SHOWN),
        groups=score_charts.strip_groups(run.distributions),
        endpoint_names={c.endpoint_id: c.name for c in endpoints.list_endpoints(session)},
    )


def _runs(session: Session, place: NewestPlace) -> dict[str, Any]:
    found = explain_runs.list_runs(session, place=place, limit=RUNS_SHOWN)
    return {"runs": found.runs, "place": place, "slice": found.place}


def _runs_part(request: Request, session: Session, place: NewestPlace) -> Response:
    return render.page(
        request,
        "explain_runs/_runs.html",
        section=SECTION,
        **_runs(session, place),
    )


def _check(session: Session, form: RunForm) -> ExplainSpec:
    """The settings in the form.

    Raises:
        FieldsInvalid: with every problem found.
    """
    values, problems = form.values()
    if not form.text("sae"):
        problems.append(FieldProblem(path="sae", message=gettext("Choose an SAE.")))
    if problems:
        raise FieldsInvalid(tuple(problems))
    try:
        return explain_runs.check(session, values)
    except NotFound as error:
        problem = FieldProblem.of("sae", error)
        raise FieldsInvalid((problem,)) from error


def _estimate(
    session: Session, form: RunForm
) -> tuple[RunEstimate | None, tuple[FieldProblem, ...]]:
    """What the run in the form will use, or what is wrong with the form."""
    try:
        spec = _check(session, form)
    except FieldsInvalid as error:
        return None, error.problems
    return explain_estimate.estimate(session, spec), ()


def _refuse_over_budget(session: Session, spec: ExplainSpec, *, anyway: bool) -> None:
    """Refuse a run that its budget would stop, unless that is wanted.

    Raises:
        FieldsInvalid: the run may need more than its budget allows.
    """
    if anyway or spec.budget == RunBudget():
        return
    found = explain_estimate.estimate(session, spec)
    if found.over_budget:
        raise FieldsInvalid(
            (
                FieldProblem(
                    path="anyway",
                    message=gettext("The run may need more than its budget allows."),
                    hint=gettext(
                        "Raise the budget, choose less, or let it pause when it is spent."
                    ),
                ),
            )
        )


def _budget(typed: dict[str, str]) -> RunBudget:
    """A new budget for a run.

    Raises:
        FieldsInvalid: a limit is no number.
    """
    given = {name: typed.get(name, "").strip() for name in run_form.BUDGET}
    try:
        return RunBudget.model_validate({name: text for name, text in given.items() if text})
    except ValidationError as error:
        raise FieldsInvalid(field_problems(error)) from error


def _choices(cards: Iterable[EndpointCard]) -> tuple[tuple[str, str], ...]:
    """Endpoints as values and words of a field."""
    return tuple((str(card.endpoint_id), f"{card.name} · {card.model}") for card in cards)


def _may_embed(card: EndpointCard) -> bool:
    return card.abilities is None or card.abilities.embedding_size > 0


def _saes(session: Session) -> tuple[SaeCard, ...]:
    """SAEs whose features can be explained."""
    models = catalog.list_models(session)
    return tuple(sae for model in models for sae in model.saes if sae.harvest is not None)


def _form_page(request: Request, session: Session, form: RunForm, *, status: int = 200) -> Response:
    shown, problems = _estimate(session, form)
    known = endpoints.list_endpoints(session)
    return render.page(
        request,
        "explain_runs/new.html",
        section=SECTION,
        status=status,
        form=form,
        saes=_saes(session),
        asking=_choices(known),
        embedders=(("", "–"), *_choices(card for card in known if _may_embed(card))),
        estimate=shown,
        problems=problems,
    )
