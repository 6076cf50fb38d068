"""Alignment runs: the list, a run's page with its stream, and runs side by side."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.deps import ResourcesDep, SessionDep
from app.downloads import download
from app.services.align import runs as align_runs
from app.services.align.runs import FileForm, MovedFeatures, RunCard
from app.services.features import catalog
from app.services.jobs import jobs
from app.services.jobs.metric_history import MetricTable, make_table
from app.web import render, run_plots, sse
from app.web.i18n import gettext
from app.web.places import JobPlaceDep
from app.web.render import Here
from app.web.routes.jobs import JobId, SeqDep, existing_job
from app.web.sse import Look
from core.db.session import Session
from core.domain.job import EventKind
from core.domain.views import Vocabulary

router = APIRouter()

SECTION = "align"
LIST_LIMIT = 50
MOVED_SHOWN = 12
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
RunQuery = Annotated[list[int], Query(alias="run", max_length=50)]


@router.get("/align")
def list_runs(
    request: Request, session: SessionDep, place: JobPlaceDep, kind: str = ""
) -> Response:
    """Runs, the newest first."""
    wanted = kind if kind in align_runs.KINDS else None
    found = align_runs.list_runs(session, kind=wanted, place=place, limit=LIST_LIMIT)
    return render.page(
        request,
        "align/list.html",
        partial="align/_table.html",
        section=SECTION,
        runs=found.runs,
        kind=wanted,
        place=place,
        slice=found.place,
        most=align_runs.MOST_COMPARED,
    )


@router.get("/align/compare")
def compare(request: Request, session: SessionDep, chosen: RunQuery = []) -> Response:  # noqa: B006
    """Runs side by side: curves on shared axes, settings that differ, last numbers."""
    wanted = list(dict.fromkeys(chosen))
    enough = 2 <= len(wanted) <= align_runs.MOST_COMPARED
    found = align_runs.compare(session, wanted) if enough else None
    return render.page(
        request,
        "align/compare.html",
        section=SECTION,
        found=found,
        n_chosen=len(wanted),
        most=align_runs.MOST_COMPARED,
        plots=run_plots.compared_plots(found) if found else (),
    )


@router.get("/align/compare/history")
def compared_history(session: SessionDep, chosen: RunQuery = []) -> Response:  # noqa: B006
    """The numbers of several runs, for the curves."""
    found = align_runs.compare(session, chosen)
    pairs = zip(found.runs, found.tables, strict=True)
    return _tables({str(run.job_id): table for run, table in pairs})


@router.get("/align/{job_id:int}")
def show(request: Request, session: SessionDep, resources: ResourcesDep, job_id: JobId) -> Response:
    """One run: what it does, how it goes, what it has moved, its settings."""
    page = jobs.get_job(session, job_id)
    run = align_runs.run_of(session, page)
    table = align_runs.history(session, job_id)
    return render.page(
        request,
        "align/show.html",
        section=SECTION,
        page=page,
        plots=run_plots.run_plots(run, table),
        tensorboard=resources.data_dir.absolute() / "jobs" / str(job_id) / "tensorboard",
        known_model=catalog.known_vocabulary(session, model_id=run.spec.model_id) is not None,
        **_state(session, run),
    )


@router.get("/align/{job_id:int}/history")
def history(session: SessionDep, job_id: JobId) -> Response:
    """The numbers of a run so far, for the curves."""
    align_runs.get_run(session, job_id)
    return _tables({"run": align_runs.history(session, job_id)})


@router.get("/align/{job_id:int}/live", response_class=EventSourceResponse)
async def live(
    request: Request,
    resources: ResourcesDep,
    job_id: Annotated[int, Depends(existing_job)],
    seq: SeqDep,
) -> AsyncIterator[ServerSentEvent]:
    """The run's page as it changes, from the event that the reader saw last."""
    here = render.here(request, section=SECTION)
    stream = sse.job_stream(resources, job_id, seq=seq, here=here, tell=run_messages)
    async for message in stream:
        yield message


def run_messages(session: Session, look: Look, here: Here) -> list[ServerSentEvent]:
    """New rows for the curves, then the state, new lines of the log and what has moved."""
    run = align_runs.run_of(session, look.page)
    rows = [event.payload for event in look.events if event.kind is EventKind.METRIC]
    html = render.fragment(
        "align/_live.html",
        {
            "here": here,
            "page": look.page,
            "lines": sse.log_lines(look),
            **_state(session, run),
        },
    )
    said = [ServerSentEvent(raw_data=html)]
    return [sse.rows_message({"run": make_table(rows)}), *said] if rows else said


@router.get("/align/{job_id:int}/config.json")
def config(session: SessionDep, job_id: JobId) -> Response:
    """The exact settings of a run, as a file."""
    run = align_runs.get_run(session, job_id)
    text = json.dumps(run.spec.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return download([text], name=f"run-{job_id}.json", media_type="application/json")


@router.get("/align/{job_id:int}/metrics.{form}", response_model=None)
def metrics(resources: ResourcesDep, job_id: JobId, form: Annotated[FileForm, Path()]) -> Response:
    """Every number of a run, one line a step, as a file."""
    pieces = align_runs.metric_file(resources.scope, job_id, form)
    return download(pieces, name=f"run-{job_id}.{form}", media_type=MEDIA_TYPES[form])


@router.post("/align/{job_id:int}/stop")
def stop(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """Asks a run to stop at its next step."""
    align_runs.get_run(session, job_id)
    jobs.cancel(session, job_id)
    toast = gettext("The run stops at its next step and keeps its state.")
    return render.told(request, toast, instead=f"/align/{job_id}")


@router.post("/align/{job_id:int}/resume")
def resume(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """Starts a new attempt; the page loads anew, since its stream had ended."""
    jobs.resume(session, job_id)
    return render.redirect(request, f"/align/{job_id}")


def feature_pages(session: Session, run: RunCard, homes: Mapping[str, str]) -> dict[str, str]:
    """By SAE whose features have pages: the model under which they have them.

    Args:
        session: the catalog.
        run: its own model's SAEs are there too.
        homes: the model of each SAE that it watches.
    """
    pages = {
        (model.model_id, sae.sae_id)
        for model in catalog.list_models(session)
        for sae in model.saes
        if sae.harvest is not None
    }
    own = {sae_id: model_id for model_id, sae_id in pages if model_id == run.spec.model_id}
    return own | {s: model_id for s, model_id in homes.items() if (model_id, s) in pages}


def _state(session: Session, run: RunCard) -> dict[str, Any]:
    """What the changing parts of a run's page show."""
    homes = align_runs.feature_homes(session, run)
    moved = align_runs.moved_features(session, run, homes=homes)
    return {
        "run": run,
        "moved": moved,
        "bars": _moved_bars(moved),
        "vocabulary": vocabulary_of(session, run, homes),
        "feature_pages": feature_pages(session, run, homes),
    }


def vocabulary_of(session: Session, run: RunCard, homes: Mapping[str, str]) -> Vocabulary | None:
    """The words of a run's model, or of the model that its features are of; None without any."""
    ids = dict.fromkeys((run.spec.model_id, *homes.values()))
    found = (catalog.known_vocabulary(session, model_id=model_id) for model_id in ids)
    return next((words for words in found if words is not None), None)


def _moved_bars(moved: MovedFeatures | None) -> tuple[float, int]:
    """The largest change among the features shown, and how many are shown."""
    if moved is None:
        return 0.0, 0
    shown = moved.features[:MOVED_SHOWN]
    return max((feature.largest for feature in shown), default=0.0), len(shown)


def _tables(tables: dict[str, MetricTable]) -> Response:
    return JSONResponse({"tables": {key: table.json() for key, table in tables.items()}})
