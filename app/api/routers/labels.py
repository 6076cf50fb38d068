"""Labels: read, written under a lock that loses nothing, as files; tags, which are lists too."""

import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator
from starlette.concurrency import run_in_threadpool

from app.api.answers import failures
from app.api.params import FeatureDep, LimitQuery, ModelIdPath, SaeIdPath
from app.api.schemas.labels import (
    ImportBody,
    LabelBody,
    LabelChangeBody,
    LabelHistory,
    LabelList,
    ListedFeatures,
    MergeTag,
    NewLabel,
    RenameTag,
    TagBody,
    TaggingBody,
    TagList,
    TagRequest,
)
from app.deps import Resources, ResourcesDep, SessionDep
from app.downloads import download
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.services.labels import files, labels, tags
from app.services.labels.texts import checked_tags
from app.services.problems import FieldProblem, FieldsInvalid
from core.db.session import Session
from core.domain.ids import FeatureId, check_model_id, check_sae_id
from core.domain.label import Existing, LabelQuery

router = APIRouter(tags=["labels"])

_OF_FEATURE = "/models/{model_id}/saes/{sae_id}/features/{index}/label"
_LINE = (
    '{"feature":"smollm2-135m-instruct/15-demo-res-4k/2511","name":"apologies","note":"",'
    '"tags":["sycophancy"],"author":"Ann","changed_at":"2026-11-20T10:00:00+00:00"}\n'
)
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, streamed.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}, "example": _LINE},
        },
    }
}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file as it is, in UTF-8.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
TagPath = Annotated[
    str, Path(max_length=200, description="Name of the tag.", examples=["sycophancy"])
]
ModelQuery = Annotated[
    str | None,
    AfterValidator(lambda value: value if value is None else check_model_id(value)),
    Query(description="Only of this model.", examples=["smollm2-135m-instruct"]),
]
SaeOnlyQuery = Annotated[
    str | None,
    AfterValidator(lambda value: value if value is None else check_sae_id(value)),
    Query(description="Only of this SAE.", examples=["15-demo-res-4k"]),
]
TagQuery = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=40,
        pattern=r"^[^\x00]*$",
        description="Only of features that bear this tag.",
        examples=["sycophancy"],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        pattern=r'^(\*|(W/)?"?[0-9]{1,9}"?)$',
        description="Version of the label as it was read, as ETag gives it; * for whichever.",
        examples=['"2"'],
    ),
]


def label_query(
    *,
    model_id: ModelQuery = None,
    sae_id: SaeOnlyQuery = None,
    tag: TagQuery = None,
    after: Annotated[
        str | None,
        Query(max_length=300, description="next_after of the page before.", examples=["m/1-x/7"]),
    ] = None,
    limit: LimitQuery = 50,
) -> LabelQuery:
    """Filters and place of a list of labels."""
    place = None if after is None else FeatureId.parse(after)
    return LabelQuery(model_id=model_id, sae_id=sae_id, tag=tag, after=place, limit=limit)


LabelQueryDep = Annotated[LabelQuery, Depends(label_query)]


@router.get("/labels", responses=failures(404, 422))
def list_labels(session: SessionDep, query: LabelQueryDep) -> LabelList:
    """Labels by model, SAE and index: all, or those of a tag, page by page with `after`."""
    found = tags.tagged(session, query)
    more = len(found) == query.limit
    return LabelList(
        labels=[LabelBody.of(label) for label in found],
        next_after=str(found[-1].feature) if more else None,
    )


@router.get(
    "/labels.{form}",
    response_class=StreamingResponse,
    responses=_FILE | failures(422),
)
def export_labels(
    resources: ResourcesDep,
    form: Annotated[ExportFormat, Path(description="jsonl, json or csv.", examples=["jsonl"])],
    query: LabelQueryDep,
) -> StreamingResponse:
    """Labels as a file; `limit` is ignored. What is exported and imported again is the same."""
    pieces = files.export_labels(resources.scope, query, form)
    return download(pieces, name=f"labels.{form}", media_type=MEDIA_TYPES[form])


async def _sent_file(request: Request) -> AsyncIterator[IO[bytes]]:
    """The body, kept on disk when it is large."""
    with tempfile.SpooledTemporaryFile(max_size=1 << 20) as content:
        async for block in request.stream():
            content.write(block)
        content.seek(0)
        yield content


@router.post("/labels/import", responses=failures(422), openapi_extra=_UPLOAD)
async def import_labels(
    resources: ResourcesDep,
    content: Annotated[IO[bytes], Depends(_sent_file)],
    form: Annotated[
        Literal["jsonl", "csv"], Query(description="What the body is.", examples=["jsonl"])
    ] = "jsonl",
    existing: Annotated[
        Existing,
        Query(
            description="Where a feature has another label: keep it, and name the feature; or "
            "replace it, the old one staying in its history.",
            examples=["keep"],
        ),
    ] = Existing.KEEP,
    dry_run: Annotated[
        bool, Query(description="Only tell what would happen.", examples=[True])
    ] = False,
) -> ImportBody:
    """Puts the labels of a file in, all or nothing, with the reason of every refused row."""
    return await run_in_threadpool(
        _import, resources, content, form=form, existing=existing, dry_run=dry_run
    )


def _import(
    resources: Resources, content: IO[bytes], *, form: str, existing: Existing, dry_run: bool
) -> ImportBody:
    with resources.scope() as session:
        report = files.import_labels(
            session, content, ExportFormat(form), existing=existing, dry_run=dry_run
        )
    return ImportBody.of(report)


@router.get(_OF_FEATURE, responses=failures(404, 422))
def get_label(session: SessionDep, feature: FeatureDep, response: Response) -> LabelBody:
    """The label of a feature; an empty one of version 0 where nobody wrote any."""
    label = labels.get_label(session, feature)
    response.headers["ETag"] = f'"{label.version}"'
    return LabelBody.of(label)


@router.put(_OF_FEATURE, responses=failures(404, 409, 422))
def put_label(
    session: SessionDep,
    feature: FeatureDep,
    body: NewLabel,
    response: Response,
    if_match: IfMatch = None,
) -> LabelBody:
    """A label in place of the present one, which stays in its history.

    Name the version that was read, in `If-Match` or as `version`. Of two who write at once the
    second is answered with 409, and the error's fields say what the label says now.
    """
    label = labels.save(
        session,
        feature,
        name=body.name,
        note=body.note,
        tags=body.tags,
        author=body.author,
        version=_version(if_match, body.version),
    )
    response.headers["ETag"] = f'"{label.version}"'
    return LabelBody.of(label)


@router.delete(_OF_FEATURE, responses=failures(404, 409, 422))
def delete_label(
    session: SessionDep,
    feature: FeatureDep,
    response: Response,
    if_match: IfMatch = None,
    version: Annotated[
        int | None,
        Query(ge=0, le=2**31 - 1, description="In place of If-Match.", examples=[2]),
    ] = None,
    author: Annotated[
        str, Query(max_length=80, description="Who deletes it.", examples=["Ann"])
    ] = "",
) -> LabelBody:
    """Empties a label; its history stays, and its version goes on."""
    label = labels.delete(session, feature, author=author, version=_version(if_match, version))
    response.headers["ETag"] = f'"{label.version}"'
    return LabelBody.of(label)


@router.get(f"{_OF_FEATURE}/history", responses=failures(404, 422))
def list_label_changes(session: SessionDep, feature: FeatureDep) -> LabelHistory:
    """Every state that a feature's label has had, the newest first."""
    found = labels.history(session, feature)
    return LabelHistory(changes=[LabelChangeBody.of(change) for change in found])


@router.post("/models/{model_id}/saes/{sae_id}/tags", responses=failures(404, 422))
def tag_features(
    session: SessionDep, model_id: ModelIdPath, sae_id: SaeIdPath, body: TagRequest
) -> TaggingBody:
    """Gives and takes tags of many features at once: a list, or all that match filters."""
    indices = _chosen(session, model_id, sae_id, body)
    if body.dry_run:
        checked_tags([*body.add, *body.remove])
        return TaggingBody(n_chosen=len(set(indices)), n_changed=0, dry_run=True)
    done = tags.tag_features(
        session,
        model_id=model_id,
        sae_id=sae_id,
        indices=indices,
        add=body.add,
        remove=body.remove,
        author=body.author,
    )
    return TaggingBody.of(done)


@router.get("/tags", responses=failures(422))
def list_tags(
    session: SessionDep, model_id: ModelQuery = None, sae_id: SaeOnlyQuery = None
) -> TagList:
    """Tags with their features counted by model and SAE."""
    found = tags.list_tags(session, model_id=model_id, sae_id=sae_id)
    return TagList(tags=[TagBody.of(card) for card in found])


@router.get("/tags/{tag}", responses=failures(404, 422))
def get_tag(session: SessionDep, tag: TagPath) -> TagBody:
    """One tag. Its features are listed by `/labels?tag=` and by the list of features."""
    return TagBody.of(tags.get_tag(session, tag))


@router.patch("/tags/{tag}", responses=failures(404, 409, 422))
def rename_tag(session: SessionDep, tag: TagPath, body: RenameTag) -> TagBody:
    """Gives a tag another name; 409 where there is one of that name, for merging."""
    return TagBody.of(tags.rename(session, tag, body.name, author=body.author))


@router.post("/tags/{tag}/merge", responses=failures(404, 422))
def merge_tag(session: SessionDep, tag: TagPath, body: MergeTag) -> TagBody:
    """Makes a tag part of another, which is answered."""
    return TagBody.of(tags.merge(session, tag, body.into, author=body.author))


@router.delete("/tags/{tag}", status_code=HTTPStatus.NO_CONTENT, responses=failures(404, 422))
def delete_tag(
    session: SessionDep,
    tag: TagPath,
    author: Annotated[
        str, Query(max_length=80, description="Who deletes it.", examples=["Ann"])
    ] = "",
) -> None:
    """Takes a tag from every feature; names and notes stay."""
    tags.delete(session, tag, author=author)


def _version(if_match: str | None, version: int | None) -> int | None:
    """The version that a change names; None for whichever there is.

    Raises:
        FieldsInvalid: it names none.
    """
    if if_match == "*":
        return None
    if if_match is not None:
        return int(if_match.removeprefix("W/").strip('"'))
    if version is None:
        problem = FieldProblem(
            path="version",
            message="The change names no version.",
            hint="Send the version that was read, here or in If-Match; If-Match: * for whichever.",
        )
        raise FieldsInvalid((problem,))
    return version


def _chosen(session: Session, model_id: str, sae_id: str, body: TagRequest) -> tuple[int, ...]:
    """The features that a request means."""
    if isinstance(body.features, ListedFeatures):
        return body.features.indices
    return tags.matching(
        session,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=body.features.harvest_id,
        query=body.features.query(checked_tags(body.features.tags)),
    )
