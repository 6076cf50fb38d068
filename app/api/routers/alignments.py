"""Alignment and fine-tuning runs: presets, checks, launch, numbers, comparisons."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from app.api.answers import failures
from app.api.params import MAX_ID, JobIdPath, JobPlaceDep, LimitQuery
from app.api.schemas.alignments import (
    AlignPresetBody,
    AlignPresetList,
    ComparisonBody,
    ConstrainRequest,
    FastChecksBody,
    MetricsBody,
    RunDetailBody,
    RunNumbersBody,
    RunNumbersList,
    SubmitRequest,
)
from app.api.schemas.jobs import JobBody
from app.deps import ResourcesDep, SessionDep
from app.services.align import alignments, constraints
from app.services.align import launch as align_launch
from app.services.align import offers as align_offers
from app.services.align import runs as align_runs
from app.services.jobs import jobs
from core.domain.align_check import CheckReport
from core.domain.alignment import ConstraintSae

router = APIRouter(prefix="/alignments", tags=["alignment"])

_FILES = {
    "csv": {"schema": {"type": "string"}, "example": "step,loss\n1,0.69\n"},
    "jsonl": {"schema": {"type": "string"}, "example": '{"step": 1, "loss": 0.69}\n'},
}


@router.get("", responses=failures(422))
def list_alignments(
    session: SessionDep,
    place: JobPlaceDep,
    kind: Annotated[
        Literal["align", "sft"] | None,
        Query(description="Only runs of this kind.", examples=["align"]),
    ] = None,
    limit: LimitQuery = 50,
) -> RunNumbersList:
    """Runs, the newest first, each with its newest numbers."""
    found = align_runs.list_runs(session, kind=kind, place=place, limit=limit)
    return RunNumbersList(
        runs=[RunNumbersBody.of(run) for run in found.runs],
        previous_after=found.place.previous_after,
        next_before=found.place.next_before,
    )


@router.post("", status_code=HTTPStatus.ACCEPTED, responses=failures(404, 422))
def submit_alignment(
    session: SessionDep, resources: ResourcesDep, body: SubmitRequest, response: Response
) -> JobBody:
    """Queues a run from settings or from a preset with changes; watch it under /jobs/{job_id}.

    Settings of which a fast check fails are refused.
    """
    spec = alignments.settings_of(body.spec, preset=body.preset, changes=body.changes)
    offers = align_offers.list_offers(session)
    align_launch.look(spec, offers, data_dir=resources.data_dir).refuse_failed()
    job_id = align_launch.submit(session, spec)
    response.headers["Location"] = f"/api/v1/alignments/{job_id}"
    return JobBody.of(jobs.get_job(session, job_id).card)


@router.get("/presets", responses=failures())
def list_alignment_presets() -> AlignPresetList:
    """The shipped presets with all their settings."""
    return AlignPresetList(
        presets=[
            AlignPresetBody(name=preset.name, spec=preset.spec)
            for preset in (*align_launch.presets("align"), *align_launch.presets("sft"))
        ]
    )


@router.post("/check", responses=failures(404, 422))
def check_alignment(
    session: SessionDep, resources: ResourcesDep, body: SubmitRequest
) -> FastChecksBody:
    """Checks settings in a moment, as far as that goes without loading a model."""
    spec = alignments.settings_of(body.spec, preset=body.preset, changes=body.changes)
    found = align_launch.look(spec, align_offers.list_offers(session), data_dir=resources.data_dir)
    return FastChecksBody.of(found, spec)


@router.post("/checks", status_code=HTTPStatus.ACCEPTED, responses=failures(404, 422))
def submit_alignment_check(session: SessionDep, body: SubmitRequest, response: Response) -> JobBody:
    """Queues a dry run with the real model: every check, then a few measured steps."""
    spec = alignments.settings_of(body.spec, preset=body.preset, changes=body.changes)
    job_id = align_launch.measure(session, spec)
    response.headers["Location"] = f"/api/v1/alignments/checks/{job_id}"
    return JobBody.of(jobs.get_job(session, job_id).card)


@router.get("/checks/{job_id}", responses=failures(404, 409, 422))
def get_alignment_check(session: SessionDep, job_id: JobIdPath) -> CheckReport:
    """What a dry run found; 409 while it has not ended."""
    return alignments.check_report(session, job_id)


@router.post("/constraint", responses=failures(404, 422))
def constrain_features(session: SessionDep, body: ConstrainRequest) -> ConstraintSae:
    """A constraint on one SAE with chosen features held or free; nothing is stored."""
    return constraints.constrain(
        session,
        body.sae,
        model_id=body.model_id,
        hold=body.hold,
        free=body.free,
        weight=body.weight,
        only_held=body.only_held,
    )


@router.get("/compare", responses=failures(404, 422))
def compare_alignments(
    session: SessionDep,
    run: Annotated[
        list[Annotated[int, Path(ge=1, le=MAX_ID)]],
        Query(max_length=50, description="Numbers of the runs' jobs.", examples=[[11, 12]]),
    ],
) -> ComparisonBody:
    """Runs side by side: numbers, and the settings in which they differ."""
    return ComparisonBody.of(align_runs.compare(session, run))


@router.get("/{job_id}", responses=failures(404, 422))
def get_alignment(session: SessionDep, job_id: JobIdPath) -> RunDetailBody:
    """A run with its settings, its newest numbers and the features that moved most so far."""
    run = align_runs.get_run(session, job_id)
    return RunDetailBody.of(
        run, align_runs.moved_features(session, run, homes=align_runs.feature_homes(session, run))
    )


@router.get("/{job_id}/metrics", responses=failures(404, 422))
def get_alignment_metrics(
    session: SessionDep,
    job_id: JobIdPath,
    most: Annotated[
        int,
        Query(ge=2, le=10_000, description="Rows at most; extremes are kept.", examples=[2_000]),
    ] = 2_000,
) -> MetricsBody:
    """Numbers of a run over its steps, by their names, few enough for curves."""
    align_runs.get_run(session, job_id)
    return MetricsBody.of(align_runs.history(session, job_id, most=most))


@router.get(
    "/{job_id}/metrics.{form}",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Every number, one line a step.",
            "content": {"text/csv": _FILES["csv"], "application/jsonl": _FILES["jsonl"]},
        },
        **failures(404, 422),
    },
)
def export_alignment_metrics(
    resources: ResourcesDep,
    job_id: JobIdPath,
    form: Annotated[Literal["csv", "jsonl"], Path(description="Kind of file.")],
) -> StreamingResponse:
    """Every number of a run as CSV or JSON lines."""
    lines: Iterator[bytes] = align_runs.metric_file(resources.scope, job_id, form)
    media_type = "text/csv" if form == "csv" else "application/jsonl"
    return StreamingResponse(lines, media_type=media_type)
