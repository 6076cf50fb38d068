"""Runs of explanations: costed, started, watched, resumed; scores spread out."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator

from app.api.answers import failures
from app.api.params import JobIdPath, JobPlaceDep, LimitQuery
from app.api.schemas.explain_runs import (
    DistributionBody,
    DistributionList,
    ResumeRequest,
    RunBody,
    RunDetail,
    RunEstimateBody,
    RunList,
)
from app.api.schemas.explanations import ExplanationBody, WrittenList
from app.api.schemas.jobs import JobBody
from app.deps import SessionDep
from app.services.explain import estimate as explain_estimate
from app.services.explain import explanations
from app.services.explain import runs as explain_runs
from app.services.jobs import jobs
from core.domain.explain_job import ExplainSpec
from core.domain.ids import check_model_id

router = APIRouter(tags=["runs"])

_EXAMPLE = {
    "model_id": "smollm2-135m-instruct",
    "sae_id": "15-demo-res-4k",
    "features": {"by": "query", "sort": "density", "descending": True, "limit": 100},
    "explainer": {"endpoint_id": 1, "styles": ["records"]},
    "scorer": {"endpoint_id": 1, "kinds": ["simulation", "detection"]},
    "budget": {"max_tokens": 2_000_000},
}
# Checked by the service, which also looks endpoints, harvest and features up.
SpecBody = Annotated[
    dict[str, Any],
    Body(
        description="Settings of a run: the fields of ExplainSpec.",
        examples=[_EXAMPLE],
        json_schema_extra={"$ref": "#/components/schemas/ExplainSpec"},
    ),
]


@router.post("/explain", status_code=HTTPStatus.ACCEPTED, responses=failures(404, 422))
def submit_explain_run(session: SessionDep, values: SpecBody, response: Response) -> JobBody:
    """Queues a run. The job that does it is answered; watch it under /jobs/{job_id}."""
    job_id = explain_runs.submit(session, explain_runs.check(session, values))
    response.headers["Location"] = f"/api/v1/explain-runs/{job_id}"
    return JobBody.of(jobs.get_job(session, job_id).card)


@router.post("/explain/check", responses=failures(404, 422))
def check_explain_run(session: SessionDep, values: SpecBody) -> ExplainSpec:
    """The settings of a run, every default written out and the harvest named; nothing starts."""
    return explain_runs.check(session, values)


@router.post("/explain/estimate", responses=failures(404, 422))
def estimate_explain_run(session: SessionDep, values: SpecBody) -> RunEstimateBody:
    """Requests, tokens and cost of a run at most, counted on its own prompts; nothing is sent."""
    spec = explain_runs.check(session, values)
    return RunEstimateBody.of(explain_estimate.estimate(session, spec))


@router.get("/explain-runs", responses=failures(422))
def list_explain_runs(
    session: SessionDep,
    place: JobPlaceDep,
    limit: LimitQuery = 50,
) -> RunList:
    """Runs, the newest first: what was made, what failed by class, what it cost."""
    found = explain_runs.list_runs(session, place=place, limit=limit)
    return RunList(
        runs=[RunBody.of(card) for card in found.runs],
        previous_after=found.place.previous_after,
        next_before=found.place.next_before,
    )


@router.get("/explain-runs/{job_id}", responses=failures(404, 422))
def get_explain_run(session: SessionDep, job_id: JobIdPath) -> RunDetail:
    """A run with the distributions of its scores by layer, method and kind."""
    return RunDetail.of(explain_runs.get_run(session, job_id))


@router.get("/explain-runs/{job_id}/explanations", responses=failures(404, 422))
def list_written_explanations(
    session: SessionDep, job_id: JobIdPath, place: JobPlaceDep, limit: LimitQuery = 50
) -> WrittenList:
    """Explanations that a run wrote and nobody has replaced, with their scores.

    ``before`` and ``after`` are numbers of explanations here.
    """
    explain_runs.get_run(session, job_id)
    found = explain_runs.written(session, job_id, place=place, limit=limit)
    return WrittenList(
        explanations=[ExplanationBody.of(card) for card in found.cards],
        previous_after=found.previous_after,
        next_before=found.next_before,
    )


@router.post("/explain-runs/{job_id}/resume", responses=failures(404, 409, 422))
def resume_explain_run(session: SessionDep, job_id: JobIdPath, body: ResumeRequest) -> JobBody:
    """Goes on with a paused, failed or cancelled run; nothing that was answered is asked again."""
    return JobBody.of(explain_runs.resume(session, job_id, budget=body.budget).card)


@router.get("/score-distributions", responses=failures(422))
def list_score_distributions(
    session: SessionDep,
    model_id: Annotated[
        str | None,
        AfterValidator(lambda value: value if value is None else check_model_id(value)),
        Query(description="Only of this model.", examples=["smollm2-135m-instruct"]),
    ] = None,
) -> DistributionList:
    """All scores, in groups within which they can be compared."""
    found = explanations.distributions(session, model_id=model_id)
    return DistributionList(distributions=[DistributionBody.of(one) for one in found])
