"""Before a run: its form, what is checked as it is filled in, layers, config files, measuring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.params import Path as PathParam
from fastapi.responses import Response
from starlette.datastructures import QueryParams, UploadFile

from app.deps import Resources, ResourcesDep, SessionDep
from app.services.align import finder as align_finder
from app.services.align import launch as align_launch
from app.services.align import offers as align_offers
from app.services.align.checks.values import LaunchReport
from app.services.align.offers import OfferedModel, Offers
from app.services.jobs import jobs
from app.services.problems import FieldProblem, FieldsInvalid
from app.web import (
    align_chosen,
    align_edit,
    align_form,
    align_layers,
    align_words,
    check_words,
    render,
    snippets,
)
from app.web.align_form import AlignForm
from app.web.i18n import gettext
from app.web.routes.jobs import JobId, PostedDep
from core.db.session import Session
from core.domain.alignment import AlignSpec, Method, SftSpec
from core.domain.job import JobCard
from core.errors import NotFound, SparsightError

router = APIRouter()

SECTION = "align"
MAX_CONFIG_BYTES = 1_000_000
MAX_FEATURES = 2_000
MEDIA_TYPES = {"toml": "application/toml", "json": "application/json"}
_FILE_FORM = Annotated[str, PathParam(pattern="^(toml|json)$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A form looked at.

    Attributes:
        spec, report: None while the form has to be mended.
        missing: what has to be mended.
    """

    form: AlignForm
    offers: Offers
    spec: AlignSpec | SftSpec | None
    report: LaunchReport | None
    missing: tuple[FieldProblem, ...]


@router.get("/align/new")
def new(request: Request, session: SessionDep, resources: ResourcesDep) -> Response:
    """The form of a new run, filled from a preset, another run, or features of a contrast."""
    offers = align_offers.list_offers(session)
    form = _asked_form(session, request.query_params, offers)
    return _form_page(request, session, _look(form, offers, resources))


@router.post("/align/new")
def submit(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """Starts a run, or shows the form again: with what has to be mended, or after a button."""
    offers = align_offers.list_offers(session)
    form = _posted_form(posted, offers)
    fields = dict(posted)
    action = fields.get("action", "start")
    picks = [value for name, value in posted if name == "pick"]
    changed = align_edit.edited(form, action, picks, offers=offers, session=session)
    if changed is not None:
        status = 422 if changed.problems else 200
        look = _look(changed, offers, resources)
        return _form_page(request, session, look, status=status)
    look = _look(form, offers, resources)
    if action == "checks":
        return _form_page(request, session, look)
    broken = _problems(look)
    if look.spec is None or broken:
        mended = _replaced(look, form.with_problems(broken))
        return _form_page(request, session, mended, status=422)
    if action == "measure":
        job_id = align_launch.measure(session, look.spec)
        measured = _replaced(look, form.with_measure(job_id))
        return _form_page(request, session, measured)
    return render.redirect(request, f"/align/{align_launch.submit(session, look.spec)}")


@router.post("/align/new/checks")
def checks(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """The checks of what stands in the form, as a fragment."""
    offers = align_offers.list_offers(session)
    look = _look(_posted_form(posted, offers), offers, resources)
    context = _side_context(request, session, look)
    return render.page(request, "align/_checks_answer.html", section=SECTION, **context)


@router.post("/align/new/measure")
def measure(
    request: Request, session: SessionDep, resources: ResourcesDep, posted: PostedDep
) -> Response:
    """Starts measuring what stands in the form; the panel that shows it, as a fragment."""
    offers = align_offers.list_offers(session)
    look = _look(_posted_form(posted, offers), offers, resources)
    broken = _problems(look)
    if look.spec is None or broken:
        raise FieldsInvalid(broken or look.missing)
    form = look.form.with_measure(align_launch.measure(session, look.spec))
    context = _side_context(request, session, _replaced(look, form))
    return render.page(request, "align/_measure.html", section=SECTION, **context)


@router.get("/align/new/measure/{job_id:int}")
def measured(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """How far a measurement is, as a fragment; a reader without scripts is sent to its job."""
    if not render.is_partial(request):
        return render.redirect(request, f"/jobs/{job_id}")
    context = _measured(session, job_id, None)
    return render.page(request, "align/_measure.html", section=SECTION, **context)


@router.get("/align/new/layers")
def layers(request: Request, session: SessionDep, model: str = "") -> Response:
    """The SAEs of a model with their facts, to choose from."""
    offers = align_offers.list_offers(session)
    return _layers_page(request, session, offers, model=model)


@router.post("/align/new/layers")
def layers_of_form(request: Request, session: SessionDep, posted: PostedDep) -> Response:
    """The same for the model in the form; what stands in the form is carried along."""
    offers = align_offers.list_offers(session)
    form = _posted_form(posted, offers)
    ticked = {form.text(f"constraint.{row}.pick") for row in range(form.n_saes)}
    chosen = offers.model(form.start)
    ids = {chosen.model_id, chosen.based_on} if chosen else {form.text("model_id")}
    known = next((s.card.model_id for s in offers.saes if s.card.model_id in ids), "")
    carried = [(name, value) for name, value in posted if name != "action"]
    return _layers_page(request, session, offers, model=known, ticked=ticked, carried=carried)


async def posted_config(request: Request) -> tuple[str, bytes] | None:
    """Name and content of the file that was sent; None where none was."""
    async with request.form(max_files=1, max_fields=4) as posted:
        file = posted.get("config")
        if not isinstance(file, UploadFile):
            return None
        return file.filename or "", await file.read(MAX_CONFIG_BYTES)


@router.get("/align/new/config")
def form_of_config(request: Request) -> Response:
    """Back to the form: a page that was filled from a file bears this address."""
    return render.redirect(request, "/align/new")


@router.post("/align/new/config")
def upload_config(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    file: Annotated[tuple[str, bytes] | None, Depends(posted_config)],
) -> Response:
    """The form, filled from a config file."""
    if file is None:
        return render.redirect(request, "/align/new")
    name, content = file
    offers = align_offers.list_offers(session)
    try:
        spec = align_launch.read_config(content, name)
    except SparsightError as error:
        found = (
            error.problems if isinstance(error, FieldsInvalid) else (FieldProblem.of("", error),)
        )
        form = _preset_form("demo", offers).with_problems(found)
        look = _look(form, offers, resources)
        return _form_page(request, session, look, status=422)
    form = align_form.from_spec(spec, offers)
    note = gettext("The form was filled from %(name)s.") % {"name": name}
    return _form_page(request, session, _look(form, offers, resources), notice=note)


@router.post("/align/new/config.{kind}")
def download_config(
    session: SessionDep, resources: ResourcesDep, posted: PostedDep, kind: _FILE_FORM
) -> Response:
    """The exact settings that the form means, as a file."""
    offers = align_offers.list_offers(session)
    look = _look(_posted_form(posted, offers), offers, resources)
    if look.spec is None:
        raise FieldsInvalid(look.missing)
    values = look.spec.model_dump(mode="json")
    name = look.spec.aligned_id if isinstance(look.spec, AlignSpec) else look.spec.tuned_id
    return Response(
        align_launch.write_config(values, kind),
        media_type=MEDIA_TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="{name}.{kind}"'},
    )


def _asked_form(session: Session, params: QueryParams, offers: Offers) -> AlignForm:
    """The form that an address asks for."""
    form = _first_form(session, params, offers)
    chosen = offers.model(params.get("model", ""))
    if chosen is not None:
        form = form.starting_from(chosen)
    form = form.with_text(_data_texts(params, offers))
    features = params.getlist("feature")[:MAX_FEATURES]
    tag, treat = params.get("tag", ""), params.get("treat", "")
    if tag:
        bare = form.without_saes().with_text({"method": Method.FPO.value})
        for key in params.getlist("sae"):
            bare = align_edit.with_tag(bare, tag, key, treat, offers=offers, session=session)
        return bare if bare.n_saes else form
    if not features:
        return form
    kept = form if "from" in params else form.without_saes()
    kept = kept.with_text({"method": Method.FPO.value})
    return align_edit.with_features(kept, features, treat, offers)


def _first_form(session: Session, params: QueryParams, offers: Offers) -> AlignForm:
    """An earlier run's settings, a preset, or what fits the model that the address names."""
    run = params.get("from", "")
    if run.isascii() and run.isdigit() and len(run) < 12:
        return align_form.from_spec(align_launch.spec_of_run(session, int(run)), offers)
    kind = params.get("kind", "align")
    name = params.get("preset") or _fitting_preset(kind, offers.model(params.get("model", "")))
    return _preset_form(name, offers, kind=kind)


def _fitting_preset(kind: str, chosen: OfferedModel | None) -> str:
    """The first preset of the model, or of the one that it was trained from; else none."""
    presets = align_launch.presets(kind if kind in align_form.KINDS else "align")
    if chosen is None:
        return presets[0].name
    own = {chosen.model_id, chosen.based_on}
    return next((preset.name for preset in presets if preset.spec.model_id in own), align_form.OWN)


def _data_texts(params: QueryParams, offers: Offers) -> dict[str, str]:
    data = params.get("data", "")
    if data == "demo":
        return {"data.kind": "demo"}
    if data == "hub":
        names = ("name", "config", "train_split", "eval_split")
        given = {f"data.{name}": params[name] for name in names if params.get(name)}
        return {"data.kind": "hub", **given}
    if offers.stored_set(data) is not None:
        return {"data.kind": "stored", "data.content_hash": data}
    return {}


def _preset_form(name: str, offers: Offers, *, kind: str = "align") -> AlignForm:
    preset = align_launch.get_preset(name)
    if preset is None:
        return align_form.blank(kind if kind in align_form.KINDS else "align")
    return align_form.from_spec(preset.spec, offers, preset=name)


def _posted_form(posted: Sequence[tuple[str, str]], offers: Offers) -> AlignForm:
    fields = dict(posted)
    kind = fields.get("kind", "align")
    before = _preset_form(fields.get("preset", align_form.OWN), offers, kind=kind)
    if "kind" not in fields:  # a page other than the form, which knows only a few fields
        start = fields.get("start", align_form.OWN)
        return _preset_form("demo", offers).with_text({"start": start})
    plain = [(name, value) for name, value in posted if name != "pick"]
    return align_form.from_post(plain, filled=before.typed)


def _look(form: AlignForm, offers: Offers, resources: Resources) -> Look:
    typed = form.typed_problems()
    try:
        spec = align_launch.check_settings(form.values(offers))
    except FieldsInvalid as error:
        found = (*typed, *form.at_fields(error.problems))
        return Look(form=form, offers=offers, spec=None, report=None, missing=found)
    if typed:
        return Look(form=form, offers=offers, spec=None, report=None, missing=typed)
    report = align_launch.look(spec, offers, data_dir=resources.data_dir)
    return Look(form=form, offers=offers, spec=spec, report=report, missing=())


def _replaced(look: Look, form: AlignForm) -> Look:
    return Look(
        form=form, offers=look.offers, spec=look.spec, report=look.report, missing=look.missing
    )


def _problems(look: Look) -> tuple[FieldProblem, ...]:
    """What keeps the form from being submitted, at its fields."""
    if look.report is None:
        return look.missing
    return look.form.at_fields(tuple(map(check_words.problem, look.report.failed)))


def _form_page(
    request: Request,
    session: Session,
    look: Look,
    *,
    status: int = 200,
    notice: str = "",
) -> Response:
    form = look.form
    model_ids = frozenset(sae.card.model_id for sae in look.offers.saes)
    chosen = look.offers.model(form.start)
    own = {form.text("model_id")} if chosen is None else {chosen.model_id, chosen.based_on}
    return render.page(
        request,
        "align/new.html",
        section=SECTION,
        status=status,
        presets=align_launch.presets(form.kind),
        contrasts=align_finder.contrasts_of(session, model_ids) if form.kind == "align" else (),
        same_model=lambda sae: sae.card.model_id in own,
        notice=notice,
        chosen_lists=align_chosen.chosen_lists(session, form, look.offers),
        tag_offers=align_chosen.tag_offers(session, form, look.offers),
        **_side_context(request, session, look),
    )


def _side_context(request: Request, session: Session, look: Look) -> dict[str, Any]:
    """What the checks beside the form show."""
    values = look.spec.model_dump(mode="json") if look.spec is not None else None
    curl = None
    if values is not None:
        body = {"spec": values}
        curl = snippets.curl_snippet(str(request.base_url), align_launch.API_PATH, body)
    return {
        "form": look.form,
        "offers": look.offers,
        "report": look.report,
        "missing": look.missing,
        "differences": look.form.differences(look.offers),
        "curl": curl,
        "check_words": check_words,
        "align_words": align_words,
        **_measured(session, look.form.measure_job, look.spec),
    }


def _measured(
    session: Session, job_id: int | None, spec: AlignSpec | SftSpec | None
) -> dict[str, Any]:
    """A measurement as its panel shows it."""
    card: JobCard | None = None
    stale = False
    if job_id is not None:
        try:
            page = jobs.get_job(session, job_id)
        except NotFound:
            page = None
        if page is not None and page.card.kind == align_launch.MEASURE_KIND:
            card = page.card
            stale = spec is not None and page.spec.get("run") != spec.model_dump(mode="json")
    return {
        "measured": card,
        "stale": stale,
        "estimate": align_words.estimate_lines(card.result) if card and card.result else (),
        "wrong": align_words.failed_checks(card.result) if card and card.result else (),
    }


def _layers_page(
    request: Request,
    session: Session,
    offers: Offers,
    *,
    model: str,
    ticked: set[str] | frozenset[str] = frozenset(),
    carried: Sequence[tuple[str, str]] = (),
) -> Response:
    models = list(dict.fromkeys(sae.card.model_id for sae in offers.saes))
    chosen = model if model in models else (models[0] if models and not carried else model)
    return render.page(
        request,
        "align/layers.html",
        section=SECTION,
        models=models,
        model_id=chosen,
        model_key=f"model:{chosen}" if chosen else "",
        carried=carried,
        rows=align_layers.rows(session, offers, model_id=chosen, ticked=ticked),
        lowest=10.0**align_layers.LOWEST_POWER,
    )
