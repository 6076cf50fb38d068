"""Preference sets: the list, uploads with their report, a set's pairs, contrasts on it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from app.deps import Resources, ResourcesDep, SessionDep
from app.downloads import download
from app.services.align import offers as align_offers
from app.services.features import catalog
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.services.jobs import jobs
from app.services.preferences import contrast_export, contrast_launch
from app.services.preferences import pages as preference_pages
from app.services.preferences import set_contrasts as preference_contrasts
from app.services.preferences import uploads as preference_uploads
from app.services.preferences.uploads import Upload, UploadReport
from app.services.problems import FieldProblem, FieldsInvalid
from app.web import (
    answers,
    contrast_rows,
    forms,
    preference_forms,
    preference_words,
    render,
)
from app.web.i18n import gettext
from app.web.routes.jobs import PostedDep
from app.web.said import said
from core.db.session import Session
from core.domain.alignment import HubPreferences
from core.domain.preference import RejectReason, Split
from core.domain.views_align import PreferenceSetCard
from core.errors import NotFound, SparsightError

router = APIRouter()

SECTION = "align"
PAIRS_SHOWN = 20
FIRST_PAIRS = 10
REJECTED_SHOWN = 100
_TOKEN = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


def named_set(set_name: str) -> int | None:
    """The set that an address names; None for the shipped one.

    Raises:
        NotFound: neither a number nor the shipped set's name.
    """
    return preference_forms.set_id(set_name)


SetDep = Annotated[int | None, Depends(named_set)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the form of a new set sent, and the upload that was made of it.

    Attributes:
        token: of the upload; empty where there is a problem, or a dataset.
        dataset: what is to be fetched; None for a file.
    """

    typed: dict[str, str]
    token: str = ""
    dataset: HubPreferences | None = None
    problems: tuple[FieldProblem, ...] = ()


@router.get("/preferences")
def list_sets(request: Request, session: SessionDep) -> Response:
    """Every preference set."""
    return render.page(
        request,
        "preferences/list.html",
        section=SECTION,
        sets=preference_pages.list_sets(session),
        n_contrasts=preference_pages.count_contrasts(session),
    )


@router.get("/preferences/new")
def new(request: Request) -> Response:
    """The form of a new set."""
    return _new_page(request, {}, ())


async def sent_upload(request: Request, resources: ResourcesDep) -> Sent:
    """The upload that a form makes; large files never pass through memory."""
    async with request.form(max_files=1, max_fields=8) as posted:
        typed = {name: value for name, value in posted.items() if isinstance(value, str)}
        return _stage(posted, typed, resources.data_dir)


@router.post("/preferences/new")
def upload(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    sent: Annotated[Sent, Depends(sent_upload)],
) -> Response:
    """Reads a file or has a dataset fetched; its report comes next, and nothing is saved."""
    if sent.problems:
        return _new_page(request, sent.typed, sent.problems, status=422)
    token = sent.token
    if sent.dataset is not None:
        fetched = preference_uploads.stage_dataset(session, resources.data_dir, sent.dataset)
        token = fetched.token
    share = sent.typed.get("held_out", "").strip()
    pairs = [("held_out", share)] if share else []
    return render.redirect(request, render.with_query(f"/preferences/uploads/{token}", pairs))


@router.get("/preferences/uploads/{token}")
def report(
    request: Request, session: SessionDep, resources: ResourcesDep, token: _TOKEN
) -> Response:
    """What reading an upload found: pairs, rejected rows with their reasons, counts."""
    form = preference_forms.report_form(request.query_params)
    waiting = preference_uploads.get_upload(resources.data_dir, token)
    if waiting.job_id is not None and not waiting.is_here:
        return _fetching_page(request, session, waiting)
    if render.is_partial(request) and "fetching" in request.query_params:
        return render.redirect(request, f"/preferences/uploads/{token}")
    found = _read(resources, token, form.share)
    return _report_page(request, found, form)


@router.post("/preferences/uploads/{token}")
def save(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    posted: PostedDep,
    token: _TOKEN,
) -> Response:
    """Saves an upload as a set, or throws it away."""
    fields = dict(posted)
    if fields.get("action") == "discard":
        preference_uploads.discard(resources.data_dir, token)
        return render.redirect(request, "/preferences/new")
    form = preference_forms.saved_form(fields)
    found = _read(resources, token, form.share)
    try:
        set_id, _ = preference_pages.save_upload(
            session,
            found,
            name=form.name,
            held_out_share=form.share,
            data_dir=resources.data_dir,
        )
    except FieldsInvalid as error:
        return _report_page(
            request,
            found,
            form.with_problems(error.problems),
            status=422,
        )
    return render.redirect(request, f"/preferences/{set_id}")


@router.get("/preferences/uploads/{token}/rejected.jsonl")
def rejected_rows(request: Request, resources: ResourcesDep, token: _TOKEN) -> StreamingResponse:
    """Every rejected row of an upload with its reason and how to mend it, a line each."""
    form = preference_forms.report_form(request.query_params)
    found = _read(resources, token, form.share)
    name = FilePath(found.upload.source).name
    return download(
        _rejected_lines(found),
        name=f"rejected-{preference_forms.file_name(name)}.jsonl",
        media_type="application/jsonl",
    )


@router.get("/preferences/{set_name}.jsonl")
def export(session: SessionDep, resources: ResourcesDep, set_id: SetDep) -> StreamingResponse:
    """Every pair of a set as JSON lines."""
    card = preference_pages.get_card(session, set_id)
    lines = preference_pages.export(session, set_id, data_dir=resources.data_dir)
    return download(
        lines, name=f"{preference_forms.file_name(card.name)}.jsonl", media_type="application/jsonl"
    )


@router.get("/preferences/{set_name}")
def show(
    request: Request, session: SessionDep, resources: ResourcesDep, set_id: SetDep
) -> Response:
    """A set: its pairs as conversations, or the rows that were rejected."""
    return _set_page(request, session, resources, set_id)


@router.post("/preferences/{set_name}/rename")
def rename(session: SessionDep, request: Request, set_id: SetDep, posted: PostedDep) -> Response:
    """Calls a set something else."""
    stored = preference_forms.stored_only(set_id)
    preference_pages.rename(session, stored, dict(posted).get("name", ""))
    return render.redirect(request, f"/preferences/{stored}")


@router.post("/preferences/{set_name}/delete")
def delete(
    request: Request, session: SessionDep, resources: ResourcesDep, set_id: SetDep
) -> Response:
    """Removes a set."""
    stored = preference_forms.stored_only(set_id)
    preference_pages.delete(session, stored, data_dir=resources.data_dir)
    return render.redirect(request, "/preferences")


@router.post("/preferences/{set_name}/contrasts")
def start_contrast(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    set_id: SetDep,
    posted: PostedDep,
) -> Response:
    """Starts a contrast; the set's page follows it."""
    fields = dict(posted)
    saes = [value for name, value in posted if name == "sae"]
    card = preference_pages.get_card(session, set_id)
    try:
        spec = contrast_launch.contrast_spec(
            align_offers.list_offers(session),
            data=preference_pages.source_of(card),
            model_key=fields.get("model", ""),
            sae_keys=saes,
            max_pairs=fields.get("max_pairs", ""),
        )
    except FieldsInvalid as error:
        start = preference_forms.StartTyped(
            model=fields.get("model", ""),
            saes=tuple(saes),
            max_pairs=fields.get("max_pairs", ""),
            problems=error.problems,
        )
        return _set_page(request, session, resources, set_id, typed=start, status=422)
    contrast_launch.submit(session, spec)
    return render.redirect(request, f"{_base(card)}#contrasts")


@router.get("/preferences/{set_name}/contrasts")
def contrasts_of_set(request: Request, set_name: str) -> Response:
    """Back to the set: a form that has to be mended bears this address."""
    query = list(request.query_params.multi_items())
    return render.redirect(request, render.with_query(f"/preferences/{set_name}", query))


@router.get("/preferences/{set_name}/contrast")
def contrast(request: Request, session: SessionDep, set_id: SetDep) -> Response:
    """Features by their mean activation on chosen and rejected answers."""
    card = preference_pages.get_card(session, set_id)
    form = contrast_rows.contrast_form(request.query_params)
    seen = preference_contrasts.look(
        session,
        card,
        contrast_id=form.contrast_id,
        sae_id=form.sae_id,
        query=None if form.problems else form.query,
    )
    shown: tuple[contrast_rows.ContrastLine, ...] = ()
    if seen.contrast is not None and seen.found is not None:
        words = catalog.known_vocabulary(session, model_id=seen.found.features_of)
        shown = contrast_rows.lines(seen.found.rows, words)
    return render.page(
        request,
        "preferences/contrast.html",
        section=SECTION,
        set_name=preference_words.set_name(card),
        base=_base(card),
        contrasts=seen.contrasts,
        contrast=seen.contrast,
        sae=seen.sae,
        found=seen.found,
        rows=shown,
        form=form,
        data_key=preference_pages.DEMO if card.set_id is None else card.content_hash,
        model_key=f"model:{seen.contrast.model_id}" if seen.contrast else "",
    )


@router.get("/preferences/{set_name}/contrast.{form}", response_model=None)
def contrast_file(
    request: Request, resources: ResourcesDep, set_id: SetDep, form: ExportFormat
) -> Response:
    """The features that the page's filters leave, with every number, as a file."""
    asked = contrast_rows.contrast_form(request.query_params)
    forms.check_filters(asked.problems)
    with resources.scope() as session:
        card = preference_pages.get_card(session, set_id)
        seen = preference_contrasts.look(
            session, card, contrast_id=asked.contrast_id, sae_id=asked.sae_id, query=None
        )
    if seen.contrast is None or seen.sae is None:
        raise NotFound(f"{card.name} has no contrast yet.", hint="Start one on the set's page.")
    pieces = contrast_export.contrast_export(
        resources.scope, seen.contrast, sae_id=seen.sae.sae_id, query=asked.query, form=form
    )
    name = f"contrast-{seen.contrast.contrast_id}_{seen.sae.sae_id}.{form.value}"
    return download(pieces, name=name, media_type=MEDIA_TYPES[form])


def _stage(posted: FormData, typed: dict[str, str], data_dir: FilePath) -> Sent:
    way = typed.get("way", "file")
    file = posted.get("file")
    _, problems = preference_forms.share_of(typed.get("held_out", ""))
    if problems:
        return Sent(typed=typed, problems=problems)
    try:
        if way == "hub":
            dataset, wrong = preference_forms.dataset_of(typed)
            return Sent(typed=typed, dataset=dataset, problems=wrong)
        if way == "path":
            staged = preference_uploads.stage_path(data_dir, typed.get("path", "").strip())
        elif isinstance(file, UploadFile) and file.filename:
            staged = preference_uploads.stage_file(data_dir, file.filename, file.file)
        else:
            message = gettext("Choose a file.")
            return Sent(typed=typed, problems=(FieldProblem(path="file", message=message),))
    except SparsightError as error:
        path = "path" if way == "path" else "file"
        found = FieldProblem.of(path, error)
        return Sent(typed=typed, problems=(found,))
    return Sent(typed=typed, token=staged.token)


def _read(resources: Resources, token: str, share: float) -> UploadReport:
    upload = preference_uploads.get_upload(resources.data_dir, token)
    return preference_uploads.read_upload(upload, held_out_share=share)


def _new_page(
    request: Request,
    typed: dict[str, str],
    problems: tuple[FieldProblem, ...],
    *,
    status: int = 200,
) -> Response:
    return render.page(
        request,
        "preferences/new.html",
        section=SECTION,
        status=status,
        typed=typed,
        problems=problems,
        limit=preference_uploads.MAX_UPLOAD_BYTES,
        examples=preference_forms.EXAMPLES,
    )


def _fetching_page(request: Request, session: Session, waiting: Upload) -> Response:
    """How far the job is that fetches a dataset."""
    card = jobs.get_job(session, waiting.job_id or 0).card
    return render.page(
        request,
        "preferences/fetching.html",
        partial="preferences/_fetching.html",
        section=SECTION,
        upload=waiting,
        job=card,
    )


def _report_page(
    request: Request,
    found: UploadReport,
    form: preference_forms.ReportForm,
    *,
    status: int = 200,
) -> Response:
    rejected = [r for r in found.found.rejected if form.reason in (None, r.reason)]
    end = form.offset + REJECTED_SHOWN
    pairs = found.found.pairs[:FIRST_PAIRS]
    return render.page(
        request,
        "preferences/report.html",
        section=SECTION,
        status=status,
        report=found,
        shown=[answers.shown_pair(pair, place) for place, pair in enumerate(pairs)],
        rejected=rejected[form.offset : end],
        offset=form.offset,
        next_offset=end if end < len(rejected) else None,
        limit=REJECTED_SHOWN,
        reason=form.reason,
        share=form.share,
        typed={
            "name": form.name or preference_pages.default_name(found.upload),
            "held_out": form.held_out,
        },
        problems=form.problems,
    )


def _set_page(
    request: Request,
    session: Session,
    resources: Resources,
    set_id: int | None,
    *,
    typed: preference_forms.StartTyped | None = None,
    status: int = 200,
) -> Response:
    params = request.query_params
    rejected = params.get("view") == "rejected"
    offset = preference_forms.whole(params.get("offset", ""))
    split = Split(params["split"]) if params.get("split") in set(Split) else None
    reason = RejectReason(params["reason"]) if params.get("reason") in set(RejectReason) else None
    limit = REJECTED_SHOWN if rejected else PAIRS_SHOWN
    page = preference_pages.get_page(
        session,
        set_id,
        data_dir=resources.data_dir,
        split=split,
        reason=reason,
        offset=offset,
        limit=limit,
        rejected=rejected,
    )
    start = preference_forms.start_form(align_offers.list_offers(session), params, typed)
    return render.page(
        request,
        "preferences/show.html",
        partial="preferences/_contrasts.html",
        section=SECTION,
        status=status,
        set=page,
        base=_base(page.card),
        view="rejected" if rejected else "pairs",
        shown=[answers.shown_pair(one.pair, one.position) for one in page.pairs.pairs],
        offset=offset,
        limit=limit,
        start=start,
        running=contrast_launch.running(session, preference_pages.source_of(page.card)),
        problems=start.problems,
    )


def _base(card: PreferenceSetCard) -> str:
    return f"/preferences/{preference_pages.DEMO if card.set_id is None else card.set_id}"


def _rejected_lines(found: UploadReport) -> Iterator[str]:
    for row in found.found.rejected:
        line: dict[str, Any] = {
            "row": row.row,
            "reason": row.reason.value,
            "detail": said(row.detail),
            "mend": preference_words.mend_word(row.reason),
            "preview": row.preview,
        }
        yield json.dumps(line, ensure_ascii=False) + "\n"
