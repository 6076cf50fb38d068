"""Tags with their counts: renamed, merged, deleted; labels as files."""

import tempfile
from collections.abc import AsyncIterator
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from app.deps import ResourcesDep, SessionDep
from app.downloads import download
from app.services.features import catalog
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.services.labels import files, tags
from app.services.labels.files import ImportReport
from app.services.problems import FieldProblem
from app.web import label_forms, render
from app.web.author import author_of
from app.web.i18n import gettext
from app.web.routes.jobs import PostedDep
from core.db.session import Session
from core.domain.label import Existing, LabelQuery
from core.errors import Conflict, Invalid

router = APIRouter()

SECTION = "tags"
REJECTED_SHOWN = 200
_SAMPLE = 12
SAMPLES = {
    "jsonl": '{"feature": "gemma-2-2b/12-gemmascope-res-16k/8437",\n "name": "apologies",'
    '\n "note": "", "tags": ["tone", "语气"],\n "author": "Ann",'
    '\n "changed_at": "2026-11-20T10:00:00+00:00"}',
    "csv": 'feature,name,tags\ngemma-2-2b/12-gemmascope-res-16k/8437,apologies,"tone, 语气"',
}


@router.get("/tags")
def list_tags(request: Request, session: SessionDep) -> Response:
    """Every tag with its features counted, or those of one model or SAE."""
    return _tags_page(request, session)


@router.get("/labels/names")
def tag_names(request: Request, session: SessionDep, model: str = "", sae: str = "") -> Response:
    """Names of tags for a field to complete, as a fragment."""
    found = tags.list_tags(session, model_id=model or None, sae_id=sae or None)
    return render.page(request, "label/_names.html", section=SECTION, tags=found)


@router.get("/tags/{name}")
def show(request: Request, session: SessionDep, name: str) -> Response:
    """One tag: its places, and what can be done with it."""
    return _tag_page(request, session, name)


@router.post("/tags/{name}/rename")
def rename(request: Request, session: SessionDep, name: str, posted: PostedDep) -> Response:
    """Gives a tag another name."""
    new = dict(posted).get("new", "")
    try:
        card = tags.rename(session, name, new, author=author_of(request))
    except (Invalid, Conflict) as error:
        return _tag_page(request, session, name, wrong=("new", error), typed=new)
    return render.redirect(request, _address(card.name))


@router.post("/tags/{name}/merge")
def merge(request: Request, session: SessionDep, name: str, posted: PostedDep) -> Response:
    """Makes a tag part of another."""
    into = dict(posted).get("into", "")
    try:
        card = tags.merge(session, name, into, author=author_of(request))
    except Invalid as error:
        return _tag_page(request, session, name, wrong=("into", error))
    return render.redirect(request, _address(card.name))


@router.post("/tags/{name}/delete")
def delete(request: Request, session: SessionDep, name: str) -> Response:
    """Takes a tag from every feature."""
    tags.delete(session, name, author=author_of(request))
    return render.redirect(request, "/tags")


@router.get("/labels.{form}", response_model=None)
def labels_file(
    resources: ResourcesDep, form: ExportFormat, tag: str = "", model: str = "", sae: str = ""
) -> Response:
    """Labels as a file: all, or those of a tag, a model or an SAE."""
    query = LabelQuery(tag=tag or None, model_id=model or None, sae_id=sae or None)
    pieces = files.export_labels(resources.scope, query, form)
    return download(pieces, name=f"labels.{form}", media_type=MEDIA_TYPES[form])


@router.get("/labels/import")
def ask_file(request: Request) -> Response:
    """The form that takes a file of labels."""
    return _import_page(request)


async def posted_file(request: Request) -> AsyncIterator[FormData]:
    """The form with its file, which is closed at the end."""
    async with request.form(max_files=1, max_fields=10) as posted:
        yield posted


@router.post("/labels/import")
def import_file(
    request: Request, session: SessionDep, posted: Annotated[FormData, Depends(posted_file)]
) -> Response:
    """Puts the labels of a file in, or tells what that would do, with each refused row."""
    file = posted.get("file")
    chosen = str(posted.get("existing", ""))
    existing = Existing(chosen) if chosen in set(Existing) else Existing.KEEP
    if not isinstance(file, UploadFile) or not file.filename:
        wrong = FieldProblem(path="file", message=gettext("Choose a file."))
        return _import_page(request, existing=existing, problems=(wrong,), status=422)
    dry_run = posted.get("dry_run") == "true"
    try:
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as kept:
            _copy(file.file, kept)
            report = files.import_labels(
                session,
                kept,
                files.form_of(file.filename),
                existing=existing,
                dry_run=dry_run,
            )
    except Invalid as error:
        problem = FieldProblem.of("file", error)
        return _import_page(request, existing=existing, problems=(problem,), status=422)
    return _import_page(request, existing=existing, report=report, name=file.filename)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """A file of our own, which readers may close as they like."""
    while block := source.read(1 << 20):
        target.write(block)
    target.seek(0)


def _tags_page(request: Request, session: Session) -> Response:
    params = request.query_params
    model_id, sae_id = params.get("model") or None, params.get("sae") or None
    everywhere = tags.list_tags(session)
    narrowed = model_id is not None or sae_id is not None
    found = tags.list_tags(session, model_id=model_id, sae_id=sae_id) if narrowed else everywhere
    places = sorted(
        {(place.model_id, place.sae_id) for card in everywhere for place in card.places}
    )
    return render.page(
        request,
        "label/tags.html",
        section=SECTION,
        tags=found,
        largest=max((card.n_features for card in found), default=0),
        places=places,
        model_id=model_id,
        sae_id=sae_id,
        address=_address,
    )


def _tag_page(
    request: Request,
    session: Session,
    name: str,
    *,
    wrong: tuple[str, Invalid | Conflict] | None = None,
    typed: str | None = None,
) -> Response:
    card = tags.get_tag(session, name)
    problems: tuple[FieldProblem, ...] = ()
    if wrong is not None:
        path, error = wrong
        problems = (FieldProblem.of(path, error),)
    status = 200 if wrong is None else 409 if isinstance(wrong[1], Conflict) else 422
    models = catalog.list_models(session)
    sample = tags.first_bearers(session, name, limit=_SAMPLE)
    shown = {bearer.label.feature.model_id for bearer in sample}
    return render.page(
        request,
        "label/tag.html",
        section=SECTION,
        status=status,
        tag=card,
        known={f"{sae.model_id}/{sae.sae_id}" for model in models for sae in model.saes},
        others=[other for other in tags.list_tags(session) if other.name != name],
        sample=sample,
        vocabularies={
            model.model_id: catalog.vocabulary(session, model_id=model.model_id)
            for model in models
            if model.model_id in shown
        },
        problems=problems,
        typed=name if typed is None else typed,
        address=_address(name),
    )


def _import_page(
    request: Request,
    *,
    existing: Existing = Existing.KEEP,
    report: ImportReport | None = None,
    name: str = "",
    problems: tuple[FieldProblem, ...] = (),
    status: int = 200,
) -> Response:
    context: dict[str, Any] = {
        "existing": existing,
        "report": report,
        "file_name": name,
        "problems": problems,
        "shown": REJECTED_SHOWN,
        "limit": files.MAX_FILE_BYTES,
        "existing_word": label_forms.existing_word,
        "choices": tuple(Existing),
        "samples": SAMPLES,
    }
    return render.page(request, "label/import.html", section=SECTION, status=status, **context)


def _address(name: str) -> str:
    return f"/tags/{quote(name, safe='')}"
