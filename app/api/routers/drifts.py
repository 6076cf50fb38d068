"""What moved: drifts of runs, features in both models, samples, and a feature's runs."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.api.answers import failures
from app.api.params import (
    AfterQuery,
    ExplainedQuery,
    FeatureDep,
    IndexPath,
    JobIdPath,
    LabelledQuery,
    LimitQuery,
    SaeIdPath,
    SaeQuery,
    SaidWords,
    Share,
    TagsQuery,
)
from app.api.schemas.drifts import (
    DriftBody,
    DriftFeatureBody,
    DriftListBody,
    FeatureDriftsBody,
    SamplesBody,
)
from app.api.schemas.jobs import JobBody
from app.deps import SessionDep
from app.services.align import runs as align_runs
from app.services.drift import drifts, run_drifts
from app.services.features import catalog
from app.services.jobs import jobs
from core.domain.views_drift import DriftQuery, DriftSort, Treatment

router = APIRouter(tags=["alignment"])

RandomQuery = Annotated[
    bool,
    Query(description="Also the contexts drawn uniformly from the corpus.", examples=[False]),
]


def drift_query(
    *,
    sort: Annotated[
        DriftSort,
        Query(description="Changes by size, cosines by value.", examples=["largest"]),
    ] = DriftSort.LARGEST,
    descending: Annotated[bool, Query(description="Largest first.", examples=[True])] = True,
    words: SaidWords = None,
    explained: ExplainedQuery = None,
    tags: TagsQuery = (),
    labelled: LabelledQuery = None,
    treatment: Annotated[
        Treatment | None,
        Query(description="Only features that the run treated so.", examples=["held"]),
    ] = None,
    min_density: Annotated[
        Share,
        Query(description="Least density, in any place and either model.", examples=[0.001]),
    ] = None,
    after: AfterQuery = None,
    limit: LimitQuery = 50,
) -> DriftQuery:
    """Filters, order and place of a drift's list."""
    return DriftQuery(
        sort=sort,
        descending=descending,
        words=words,
        explained=explained,
        tags=tags,
        labelled=labelled,
        treatment=treatment,
        min_density=min_density,
        after=after,
        limit=limit,
    )


@router.get("/alignments/{job_id}/drift", responses=failures(404, 422))
def get_drift(session: SessionDep, job_id: JobIdPath) -> DriftBody:
    """The newest comparison of a run's model with its base; 404 before there is one."""
    return DriftBody.of(drifts.of_run(session, job_id))


@router.post(
    "/alignments/{job_id}/drift",
    status_code=HTTPStatus.ACCEPTED,
    responses=failures(404, 409, 422),
)
def measure_drift(session: SessionDep, job_id: JobIdPath) -> JobBody:
    """Queues a comparison of a finished run's model with its base, and answers its job."""
    measuring = run_drifts.measure(session, align_runs.get_run(session, job_id))
    return JobBody.of(jobs.get_job(session, measuring).card)


@router.get("/alignments/{job_id}/drift/features", responses=failures(404, 422))
def list_drift_features(
    session: SessionDep,
    job_id: JobIdPath,
    query: Annotated[DriftQuery, Depends(drift_query)],
    sae_id: SaeQuery = None,
) -> DriftListBody:
    """Features of one SAE of a run's drift, filtered and sorted, page by page with `after`."""
    return DriftListBody.of(drifts.list_rows(session, job_id, sae_id=sae_id, query=query))


@router.get("/alignments/{job_id}/drift/features/{sae_id}/{index}", responses=failures(404, 422))
def get_drift_feature(
    session: SessionDep,
    job_id: JobIdPath,
    sae_id: SaeIdPath,
    index: IndexPath,
    random: RandomQuery = False,
) -> DriftFeatureBody:
    """One feature on its stored contexts in base and aligned model."""
    found = drifts.contexts(session, job_id, sae_id=sae_id, index=index, include_random=random)
    words = catalog.vocabulary(
        session, model_id=found.drift.model_id, revision=found.drift.base_revision
    )
    return DriftFeatureBody.of(found, words)


@router.get("/alignments/{job_id}/samples", responses=failures(404, 422))
def list_samples(session: SessionDep, job_id: JobIdPath) -> SamplesBody:
    """What base and aligned model of a run wrote to the same held-out prompts."""
    return SamplesBody.of(drifts.samples_of_run(session, job_id))


@router.get(
    "/models/{model_id}/saes/{sae_id}/features/{index}/drifts", responses=failures(404, 422)
)
def list_feature_drifts(session: SessionDep, feature: FeatureDep) -> FeatureDriftsBody:
    """Every run that was measured through a feature's SAE, with what became of the feature."""
    return FeatureDriftsBody.of(drifts.of_feature(session, feature))
