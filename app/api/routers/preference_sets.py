"""Preference sets: uploaded, listed, read pair by pair with every refused row, deleted."""

import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from app.api.answers import failures
from app.api.params import MAX_ID, LimitQuery
from app.api.schemas.jobs import JobBody
from app.api.schemas.preference_sets import (
    FetchRequest,
    PairPage,
    PreferenceSetBody,
    PreferenceSetList,
    RejectedPage,
    RenameRequest,
    UploadedBody,
)
from app.deps import Resources, ResourcesDep, SessionDep
from app.services.jobs import jobs
from app.services.preferences import pages as preference_pages
from app.services.preferences import uploads as preference_uploads
from core.domain.preference import RejectReason, Split
from core.errors import Invalid

router = APIRouter(prefix="/preference-sets", tags=["alignment"])

SPOOLED_BYTES = 1 << 20  # an upload is held in memory up to this, then on disk
SetPath = Annotated[
    Literal["demo"] | Annotated[int, Path(ge=1, le=MAX_ID)],
    Path(description="Number of the set, or demo for the shipped one.", examples=[3]),
]
StoredPath = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the set.", examples=[3])]
OffsetQuery = Annotated[
    int, Query(ge=0, le=MAX_ID, description="next_offset of the page before.", examples=[50])
]
ShareQuery = Annotated[
    float,
    Query(
        ge=0.0,
        lt=1.0,
        allow_inf_nan=False,
        description="Share of prompts to hold out where rows name no split.",
        examples=[0.05],
    ),
]
_LINE = (
    '{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", '
    '"content": "Hello."}], "rejected": [{"role": "assistant", "content": "Hm."}], '
    '"split": "train"}\n'
)
_FILE = {"type": "string", "format": "binary", "description": "The file, as it is."}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON lines (also gzipped), JSON or Parquet, told by the file's name.",
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
            },
        },
    }
}


@router.get("", responses=failures(422))
def list_preference_sets(session: SessionDep) -> PreferenceSetList:
    """Every preference set: the shipped one, then the uploaded ones, the newest first."""
    found = preference_pages.list_sets(session)
    return PreferenceSetList(sets=[PreferenceSetBody.of(card) for card in found])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses={200: {"model": UploadedBody}, **failures(422)},
    openapi_extra=_UPLOAD,
)
async def upload_preference_set(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    filename: Annotated[
        str,
        Query(
            max_length=255,
            description="Name of a raw body's file; its ending tells what it is.",
            examples=["pairs.jsonl"],
        ),
    ] = "",
    name: Annotated[
        str,
        Query(
            max_length=120,
            description="What the set is called; the file's name without one.",
            examples=["house-style"],
        ),
    ] = "",
    held_out_share: ShareQuery = 0.05,
) -> UploadedBody:
    """Stores a file of pairs, in any of the known formats, with a reason for every refused row.

    Send the file as the body with `filename`, or as the field `file` of a form. Rows that say the
    same are stored once. This very set again is answered with 200 and stored once.
    """
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as content:
        given = await _receive(request, content)
        content.seek(0)
        body = await run_in_threadpool(
            _store,
            resources,
            content,
            source=given or filename,
            name=name,
            held_out_share=held_out_share,
        )
    if not body.is_new:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/api/v1/preference-sets/{body.set.set_id}"
    return body


@router.post("/fetch", status_code=HTTPStatus.ACCEPTED, responses=failures(422))
def fetch_preference_set(
    session: SessionDep, resources: ResourcesDep, body: FetchRequest, response: Response
) -> JobBody:
    """Queues a job that fetches a dataset and stores its pairs; its result names the `set_id`."""
    upload = preference_uploads.stage_dataset(
        session, resources.data_dir, body.data, save_as=body.name
    )
    job = jobs.get_job(session, upload.job_id or 0).card
    response.headers["Location"] = f"/api/v1/jobs/{job.job_id}"
    return JobBody.of(job)


@router.get("/{set_id}", responses=failures(404, 422))
def get_preference_set(session: SessionDep, set_id: SetPath) -> PreferenceSetBody:
    """One preference set."""
    return PreferenceSetBody.of(preference_pages.get_card(session, _number(set_id)))


@router.patch("/{set_id}", responses=failures(404, 422))
def rename_preference_set(
    session: SessionDep, set_id: StoredPath, body: RenameRequest
) -> PreferenceSetBody:
    """Calls a set something else; runs go on naming it by its content."""
    preference_pages.rename(session, set_id, body.name)
    return PreferenceSetBody.of(preference_pages.get_card(session, set_id))


@router.delete("/{set_id}", status_code=HTTPStatus.NO_CONTENT, responses=failures(404, 422))
def delete_preference_set(session: SessionDep, resources: ResourcesDep, set_id: StoredPath) -> None:
    """Removes a set with its refused rows; models that were trained on it stay."""
    preference_pages.delete(session, set_id, data_dir=resources.data_dir)


@router.get("/{set_id}/pairs", responses=failures(404, 422))
def list_preference_pairs(
    session: SessionDep,
    resources: ResourcesDep,
    set_id: SetPath,
    split: Annotated[
        Split | None, Query(description="Only pairs of this split.", examples=["train"])
    ] = None,
    offset: OffsetQuery = 0,
    limit: LimitQuery = 50,
) -> PairPage:
    """Pairs of a set in source order, page by page."""
    page = preference_pages.get_page(
        session,
        _number(set_id),
        data_dir=resources.data_dir,
        split=split,
        reason=None,
        offset=offset,
        limit=limit,
        rejected=False,
    )
    return PairPage.of(page.pairs)


@router.get("/{set_id}/rejected", responses=failures(404, 422))
def list_rejected_rows(
    session: SessionDep,
    resources: ResourcesDep,
    set_id: SetPath,
    reason: Annotated[
        RejectReason | None,
        Query(description="Only rows refused for this.", examples=["duplicate"]),
    ] = None,
    offset: OffsetQuery = 0,
    limit: LimitQuery = 50,
) -> RejectedPage:
    """Rows of a set that are not used, each with its reason, page by page."""
    page = preference_pages.get_page(
        session,
        _number(set_id),
        data_dir=resources.data_dir,
        split=None,
        reason=reason,
        offset=offset,
        limit=limit,
        rejected=True,
    )
    return RejectedPage.of(page.rejected)


@router.get(
    "/{set_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One pair a line: TRL's explicit prompt as messages, with its split.",
            "content": {"application/jsonl": {"schema": {"type": "string"}, "example": _LINE}},
        },
        **failures(404, 422),
    },
)
def export_preference_set(
    session: SessionDep, resources: ResourcesDep, set_id: SetPath
) -> StreamingResponse:
    """Every pair of a set as JSON lines."""
    lines: Iterator[str] = preference_pages.export(
        session, _number(set_id), data_dir=resources.data_dir
    )
    return StreamingResponse(lines, media_type="application/jsonl")


def _number(set_id: int | str) -> int | None:
    return set_id if isinstance(set_id, int) else None


async def _receive(request: Request, content: IO[bytes]) -> str:
    """Writes the uploaded bytes into ``content``; the name that a form gives the file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        async for piece in request.stream():
            content.write(piece)
        return ""
    async with request.form(max_files=1) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "The form has no field file.")
        while piece := await file.read(SPOOLED_BYTES):
            content.write(piece)
        return file.filename or ""


def _store(
    resources: Resources, content: IO[bytes], *, source: str, name: str, held_out_share: float
) -> UploadedBody:
    if not source:
        raise Invalid(
            "The file has no name, so nobody knows what it is.",
            hint="Send ?filename=pairs.jsonl, or the file as the field of a form.",
        )
    upload = preference_uploads.stage_file(resources.data_dir, source, content)
    try:
        report = preference_uploads.read_upload(upload, held_out_share=held_out_share)
        with resources.scope() as session:
            set_id, is_new = preference_pages.save_upload(
                session,
                report,
                name=name or PurePosixPath(upload.source).name.split(".")[0],
                held_out_share=held_out_share,
                data_dir=resources.data_dir,
            )
            card = preference_pages.get_card(session, set_id)
    finally:
        preference_uploads.discard(resources.data_dir, upload.token)
    return UploadedBody(set=PreferenceSetBody.of(card), is_new=is_new)
