"""Jobs: the list, a job's page with its stream, stopping, going on, and starting a harvest."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.deps import Resources, ResourcesDep, SessionDep
from app.services.harvest import harvests
from app.services.harvest.estimate import HarvestEstimate
from app.services.jobs import jobs
from app.services.jobs import speed as job_speed
from app.services.problems import FieldsInvalid
from app.web import harvest_form, render, run_plots, sse, words
from app.web.harvest_form import HarvestForm
from app.web.i18n import gettext
from app.web.places import JobPlaceDep
from core.db.session import Session
from core.domain.job import JobState

router = APIRouter()

SECTION = "jobs"
LIST_LIMIT = 50
JobId = Annotated[int, Path(ge=1, le=2**62)]


async def posted_fields(request: Request) -> list[tuple[str, str]]:
    """The text fields of a form, in order."""
    form = await request.form(max_fields=2000, max_files=0)
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


PostedDep = Annotated[list[tuple[str, str]], Depends(posted_fields)]


@router.get("/jobs")
def list_jobs(
    request: Request, session: SessionDep, place: JobPlaceDep, state: str = ""
) -> Response:
    """Jobs, the newest first."""
    wanted = JobState(state) if state in set(JobState) else None
    found = jobs.list_page(session, state=wanted, place=place, limit=LIST_LIMIT)
    return render.page(
        request,
        "jobs/list.html",
        partial="jobs/_table.html",
        section=SECTION,
        jobs=found.jobs,
        state=wanted,
        place=place,
        slice=found,
    )


@router.get("/jobs/new")
def new(request: Request, session: SessionDep, resources: ResourcesDep) -> Response:
    """The form of a new harvest, filled from a preset."""
    name = request.query_params.get("preset", harvest_form.PRESETS[0])
    form = harvest_form.from_preset(name)
    return _form_page(request, session, resources, form)


@router.post("/jobs/estimate")
def estimate(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """What the harvest in the form will cost, as a fragment."""
    form = harvest_form.from_post(posted)
    shown, problems = _estimate(session, resources, form)
    return render.page(
        request,
        "jobs/_estimate.html",
        section=SECTION,
        estimate=shown,
        problems=problems,
    )


@router.post("/jobs")
def submit(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """Starts a harvest, or shows the form again with what has to be mended."""
    form = harvest_form.from_post(posted)
    match dict(posted).get("action"):
        case "add":
            return _form_page(request, session, resources, form.with_row())
        case "estimate":
            return _form_page(request, session, resources, form)
        case _:
            pass
    try:
        spec = harvests.check(form.values())
    except FieldsInvalid as error:
        broken = form.with_problems(error.problems)
        return _form_page(request, session, resources, broken, status=422)
    job_id = harvests.submit(session, spec)
    return render.redirect(request, f"/jobs/{job_id}")


@router.get("/jobs/{job_id}")
def show(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """One job: how far it is, what happened, its settings."""
    page = jobs.get_job(session, job_id)
    table = job_speed.speed_history(session, job_id)
    unit = words.unit_word(job_speed.speed_unit(page.card))
    plots = run_plots.speed_plots(table, unit=unit) if table.n_rows > 1 or page.card.active else ()
    return render.page(
        request,
        "jobs/show.html",
        section=SECTION,
        page=page,
        plots=plots,
    )


@router.get("/jobs/{job_id}/history")
def history(session: SessionDep, job_id: JobId) -> Response:
    """A job's speed and progress so far, for the curves."""
    return JSONResponse({"tables": {"run": job_speed.speed_history(session, job_id).json()}})


def existing_job(resources: ResourcesDep, job_id: JobId) -> int:
    """The id of a job that exists, known before a stream begins; no session stays open."""
    with resources.scope() as session:
        return jobs.get_job(session, job_id).card.job_id


def seen_last(after: int = 0, last_event_id: Annotated[str | None, Header()] = None) -> int:
    """Number of the event that the reader of a stream saw last, by the browser or the page."""
    resumed = last_event_id if last_event_id and last_event_id.isdigit() else None
    return int(resumed) if resumed else after


SeqDep = Annotated[int, Depends(seen_last)]


@router.get("/jobs/{job_id}/live", response_class=EventSourceResponse)
async def live(
    request: Request,
    resources: ResourcesDep,
    job_id: Annotated[int, Depends(existing_job)],
    seq: SeqDep,
) -> AsyncIterator[ServerSentEvent]:
    """The job's page as it changes, from the event that the reader saw last."""
    here = render.here(request, section=SECTION)
    async for message in sse.job_stream(resources, job_id, seq=seq, here=here):
        yield message


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """Asks a job to stop."""
    jobs.cancel(session, job_id)
    toast = gettext("The job stops after the item in hand.")
    return render.told(request, toast, instead=f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/resume")
def resume(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """Starts a new attempt; the page loads anew, since its stream had ended."""
    jobs.resume(session, job_id)
    return render.redirect(request, f"/jobs/{job_id}")


def _form_page(
    request: Request,
    session: Session,
    resources: Resources,
    form: HarvestForm,
    *,
    status: int = 200,
) -> Response:
    shown, problems = _estimate(session, resources, form)
    return render.page(
        request,
        "jobs/new.html",
        section=SECTION,
        status=status,
        form=form,
        presets=harvest_form.PRESETS,
        estimate=shown,
        problems=problems,
    )


def _estimate(
    session: Session, resources: Resources, form: HarvestForm
) -> tuple[HarvestEstimate | None, Mapping[str, str]]:
    """The cost of what the form says, or what is wrong with it."""
    try:
        spec = harvests.check(form.values())
    except FieldsInvalid as error:
        return None, {problem.path: problem.message for problem in error.problems}
    machine = harvests.this_machine(resources.data_dir)
    return harvests.estimate(session, spec, machine=machine), {}
