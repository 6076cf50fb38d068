"""After a run: what it moved, and what both models write."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.deps import ResourcesDep, SessionDep
from app.downloads import download
from app.services.align import runs as align_runs
from app.services.align.runs import RunCard
from app.services.drift import moved_export, run_drifts
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.web import forms, moved_form, render
from app.web.i18n import gettext
from app.web.routes.align import SECTION, feature_pages, vocabulary_of
from app.web.routes.jobs import JobId, PostedDep
from app.web.sample_rows import shown_samples
from core.db.session import Session
from core.domain.views_drift import DriftCard, DriftSae
from core.errors import NotFound

router = APIRouter()


@router.get("/align/{job_id:int}/moved")
def moved(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """The features that a run moved, through each SAE that was read."""
    run = align_runs.get_run(session, job_id)
    found = run_drifts.run_drift(session, run)
    context: dict[str, Any] = {"run": run, "found": found, "sae": None}
    status = 200
    if found.drift is not None and found.drift.saes:
        form = moved_form.moved_form(request.query_params)
        sae = _chosen_sae(found.drift, request.query_params.get("sae"))
        status = 422 if form.problems else 200
        context |= _rows(session, run, found.drift, sae, form)
    return render.page(
        request,
        "align/moved.html",
        partial="align/_moved.html",
        section=SECTION,
        status=status,
        **context,
    )


@router.get("/align/{job_id:int}/moved.{form}", response_model=None)
def moved_file(
    request: Request, resources: ResourcesDep, job_id: JobId, form: ExportFormat
) -> Response:
    """The features that the page's filters leave, with every number, as a file."""
    asked = moved_form.moved_form(request.query_params)
    forms.check_filters(asked.problems)
    with resources.scope() as session:
        drift = run_drifts.run_drift(session, align_runs.get_run(session, job_id)).drift
    if drift is None or not drift.saes:
        raise NotFound(
            f"No features of run {job_id} were compared.", hint="Measure what moved first."
        )
    sae = _chosen_sae(drift, request.query_params.get("sae"))
    pieces = moved_export.moved_export(
        resources.scope, drift, sae_id=sae.sae_id, query=asked.query, form=form
    )
    name = f"run-{job_id}_{sae.sae_id}_moved.{form.value}"
    return download(pieces, name=name, media_type=MEDIA_TYPES[form])


@router.get("/align/{job_id:int}/samples")
def samples(request: Request, session: SessionDep, job_id: JobId) -> Response:
    """What base and aligned model write to the same prompts."""
    run = align_runs.get_run(session, job_id)
    found = run_drifts.run_drift(session, run)
    written = run_drifts.run_samples(session, found.drift) if found.drift else None
    return render.page(
        request,
        "align/samples.html",
        partial="align/_samples.html",
        section=SECTION,
        run=run,
        found=found,
        written=written,
        pairs=shown_samples(written.pairs) if written else (),
    )


@router.post("/align/{job_id:int}/drift")
def measure(request: Request, session: SessionDep, job_id: JobId, posted: PostedDep) -> Response:
    """Starts a measurement of what the run moved, with samples as the form asks for them."""
    run = align_runs.get_run(session, job_id)
    typed = dict(posted)
    run_drifts.measure(session, run, sampling=run_drifts.sampling_of(typed))
    page = "samples" if typed.get("page") == "samples" else "moved"
    return render.part(
        request,
        "align/_measuring.html",
        instead=f"/align/{job_id}/{page}",
        toast=gettext("The measurement is queued."),
        run=run,
        found=run_drifts.run_drift(session, run),
    )


def _rows(
    session: Session, run: RunCard, drift: DriftCard, sae: DriftSae, form: moved_form.MovedForm
) -> dict[str, Any]:
    homes = align_runs.feature_homes(session, run)
    listed = None
    if not form.problems:
        listed = run_drifts.moved_rows(session, drift, sae_id=sae.sae_id, query=form.query)
    return {
        "drift": drift,
        "sae": sae,
        "form": form,
        "listed": listed,
        "largest": moved_form.largest_change(listed.rows) if listed else 0.0,
        "feature_pages": feature_pages(session, run, homes),
        "vocabulary": vocabulary_of(session, run, homes),
        "treatment_word": moved_form.treatment_word,
    }


def _chosen_sae(drift: DriftCard, wanted: str | None) -> DriftSae:
    """The SAE that the address names, else the first."""
    return next((sae for sae in drift.saes if sae.sae_id == wanted), drift.saes[0])
