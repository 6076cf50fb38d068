"""Explanations: read, written, edited, found; scores with every example; one feature at once."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator

from app.api.answers import failures
from app.api.params import MAX_ID, FeatureDep, LimitQuery
from app.api.schemas.explain_runs import LiveRequest, LiveStepBody, PreviewBody, PreviewRequest
from app.api.schemas.explanations import (
    ChangedExplanation,
    ExplanationBody,
    ExplanationDetailBody,
    ExplanationList,
    NewExplanation,
    ScoreDetailBody,
)
from app.deps import ResourcesDep, SessionDep
from app.services.explain import explanations
from app.services.explain import live as explain_live
from app.services.explain import runs as explain_runs
from core.domain.explain_job import ExplainSpec
from core.domain.ids import check_model_id, check_sae_id

router = APIRouter(tags=["explanations"])

_OF_FEATURE = "/models/{model_id}/saes/{sae_id}/features/{index}/explanations"
_STREAM: dict[str, Any] = {
    "description": "Steps as they happen.",
    "content": {
        "text/event-stream": {
            "example": 'event: failed\ndata: {"kind":"failed","messages":[],"explanation":null,'
            '"samples":[],"test":null,"score":null,"code":"refusal",'
            '"message":"The model refused to answer.","hint":""}\n\n'
        }
    },
}
ExplanationIdPath = Annotated[
    int, Path(ge=1, le=MAX_ID, description="Number of the explanation.", examples=[12])
]


@router.get(_OF_FEATURE, responses=failures(404, 422))
def list_explanations(
    session: SessionDep,
    feature: FeatureDep,
    with_superseded: Annotated[
        bool, Query(description="Also those that an edit has replaced.", examples=[False])
    ] = False,
) -> ExplanationList:
    """A feature's explanations, each with its scores and their floors."""
    found = explanations.list_explanations(session, feature, with_superseded=with_superseded)
    return ExplanationList(explanations=[ExplanationBody.of(card) for card in found])


@router.post(_OF_FEATURE, status_code=HTTPStatus.CREATED, responses=failures(404, 422))
def add_explanation(
    session: SessionDep, feature: FeatureDep, body: NewExplanation, response: Response
) -> ExplanationBody:
    """Keeps a person's explanation."""
    card = explanations.add_human(session, feature, text=body.text, author=body.author)
    response.headers["Location"] = f"/api/v1/explanations/{card.explanation_id}"
    return ExplanationBody.of(card)


@router.post(f"{_OF_FEATURE}/preview", responses=failures(404, 422))
def preview_prompt(session: SessionDep, feature: FeatureDep, body: PreviewRequest) -> PreviewBody:
    """The exact messages that an explainer would be sent; nothing is sent."""
    found = explain_runs.preview(
        session,
        feature,
        style=body.style,
        setting=body.explainer,
        harvest_id=body.harvest_id,
        seed=body.seed,
    )
    return PreviewBody.of(found)


def _live_spec(resources: ResourcesDep, feature: FeatureDep, body: LiveRequest) -> ExplainSpec:
    """The settings of one feature, checked before a stream begins."""
    values = {
        **body.model_dump(mode="json"),
        "model_id": feature.model_id,
        "sae_id": feature.sae_id,
        "features": {"by": "list", "indices": [feature.index]},
    }
    with resources.scope() as session:
        return explain_runs.check(session, values)


@router.post(
    f"{_OF_FEATURE}/explain",
    response_class=EventSourceResponse,
    responses={200: _STREAM, **failures(404, 422)},
)
async def explain_feature(
    resources: ResourcesDep, spec: Annotated[ExplainSpec, Depends(_live_spec)]
) -> AsyncIterator[ServerSentEvent]:
    """Explains and scores one feature at once, as server-sent events.

    The event's name is the step's kind: asked, explained, choosing, chosen, testing, scored or
    failed. After the last step an event named `end` comes and the stream ends.
    """
    async for step in explain_live.explain_live(resources.scope, resources.keys, spec):
        yield ServerSentEvent(data=LiveStepBody.of(step), event=step.kind.value)
    yield ServerSentEvent(raw_data="{}", event="end")


@router.get("/explanations", responses=failures(422))
def search_explanations(
    session: SessionDep,
    words: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            pattern=r"^[^\x00]*$",
            description='Words to look for; "in quotes" as a phrase, -without.',
            examples=["river"],
        ),
    ],
    model_id: Annotated[
        str | None,
        AfterValidator(lambda value: value if value is None else check_model_id(value)),
        Query(description="Only of this model.", examples=["smollm2-135m-instruct"]),
    ] = None,
    sae_id: Annotated[
        str | None,
        AfterValidator(lambda value: value if value is None else check_sae_id(value)),
        Query(description="Only of this SAE.", examples=["15-demo-res-4k"]),
    ] = None,
    limit: LimitQuery = 50,
) -> ExplanationList:
    """Current explanations that hold all the words, best first."""
    found = explanations.search(session, words, model_id=model_id, sae_id=sae_id, limit=limit)
    return ExplanationList(explanations=[ExplanationBody.of(one.card) for one in found])


@router.get("/explanations/{explanation_id}", responses=failures(404, 422))
def get_explanation(
    session: SessionDep, explanation_id: ExplanationIdPath
) -> ExplanationDetailBody:
    """One explanation with the messages that were sent for it."""
    return ExplanationDetailBody.of(explanations.get_explanation(session, explanation_id))


@router.patch("/explanations/{explanation_id}", responses=failures(404, 409, 422))
def edit_explanation(
    session: SessionDep, explanation_id: ExplanationIdPath, body: ChangedExplanation
) -> ExplanationBody:
    """A new text in place of an explanation; the old one stays with its scores, superseded."""
    card = explanations.edit(
        session, explanation_id, text=body.text, version=body.version, author=body.author
    )
    return ExplanationBody.of(card)


@router.delete(
    "/explanations/{explanation_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=failures(404, 422),
)
def delete_explanation(session: SessionDep, explanation_id: ExplanationIdPath) -> None:
    """Deletes an explanation with its scores."""
    explanations.delete(session, explanation_id)


@router.get("/scores/{score_id}", responses=failures(404, 422))
def get_score(
    session: SessionDep,
    score_id: Annotated[
        int, Path(ge=1, le=MAX_ID, description="Number of the score.", examples=[31])
    ],
) -> ScoreDetailBody:
    """A score with every simulated or judged example behind it."""
    return ScoreDetailBody.of(explanations.get_score(session, score_id))
