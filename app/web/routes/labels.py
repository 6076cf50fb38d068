"""Labels of features: written in place, read with their history, brought back, deleted."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.deps import SessionDep
from app.services.explain import explanations
from app.services.labels import labels
from app.services.labels.labels import LabelChanged
from app.services.labels.texts import NOBODY, split_tags
from app.services.problems import FieldsInvalid
from app.web import forms, label_forms, render
from app.web.author import author_of, keep_author
from app.web.i18n import gettext
from app.web.label_forms import LabelForm
from app.web.routes.explaining import FeatureDep
from app.web.routes.jobs import PostedDep
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.label import Label

router = APIRouter()

SECTION = "features"


@router.get("/{model_id}/{sae_id}/{index}/label")
def show(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """A feature's label with every state that it has had."""
    return _history_page(request, session, feature)


@router.get("/{model_id}/{sae_id}/{index}/label/edit")
def edit(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """The form in which people write a label."""
    label = labels.get_label(session, feature)
    form = label_forms.label_form(label, author=author_of(request), suffix=_suffix(request))
    return _form_page(request, form)


@router.post("/{model_id}/{sae_id}/{index}/label")
def save(request: Request, session: SessionDep, feature: FeatureDep, posted: PostedDep) -> Response:
    """Keeps a label; when somebody was faster, both are shown and nothing typed is lost."""
    form = label_forms.posted_form(feature, dict(posted), suffix=_suffix(request))
    try:
        label = labels.save(
            session,
            feature,
            name=form.name,
            note=form.note,
            tags=split_tags(form.tags),
            author=form.author,
            version=form.version,
        )
    except FieldsInvalid as error:
        return _form_page(request, replace(form, problems=error.problems), status=422)
    except LabelChanged as error:
        late = replace(form, present=error.present, version=error.present.version)
        return _form_page(request, late, status=409)
    response = _changed(request, session, label, toast=gettext("Label saved."))
    keep_author(response, form.author)
    return response


@router.get("/{model_id}/{sae_id}/{index}/label/delete")
def ask_delete(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """Asks whether a label shall go."""
    return _history_page(request, session, feature, asking=True)


@router.post("/{model_id}/{sae_id}/{index}/label/delete")
def delete(
    request: Request, session: SessionDep, feature: FeatureDep, posted: PostedDep
) -> Response:
    """Deletes a label; its history stays."""
    form = label_forms.posted_form(feature, dict(posted), suffix=_suffix(request))
    author = author_of(request)
    label = labels.delete(session, feature, author=author, version=form.version)
    return _changed(request, session, label, toast=gettext("Label deleted."))


def strip_context(session: Session, feature: FeatureId, *, suffix: str) -> dict[str, Any]:
    """What a label's part of a feature's page shows."""
    found = explanations.list_explanations(session, feature)
    return {
        "feature": feature,
        "base": f"/{feature.model_id}/{feature.sae_id}",
        "label": labels.get_label(session, feature),
        "foremost": explanations.foremost(found),
        "suffix": suffix,
        "nobody": NOBODY,
    }


def _changed(request: Request, session: Session, label: Label, *, toast: str) -> Response:
    suffix = _suffix(request)
    return render.part(
        request,
        "label/_changed.html",
        instead=f"/{label.feature}{suffix}",
        toast=toast,
        **strip_context(session, label.feature, suffix=suffix),
    )


def _form_page(request: Request, form: LabelForm, *, status: int = 200) -> Response:
    return render.page(
        request,
        "label/edit.html",
        partial="label/_form.html",
        section=SECTION,
        status=status,
        form=form,
        inline=render.is_partial(request),
    )


def _history_page(
    request: Request, session: Session, feature: FeatureId, *, asking: bool = False
) -> Response:
    return render.page(
        request,
        "label/show.html",
        section=SECTION,
        feature=feature,
        base=f"/{feature.model_id}/{feature.sae_id}",
        label=labels.get_label(session, feature),
        history=labels.history(session, feature),
        asking=asking,
        suffix=_suffix(request),
        author=author_of(request),
        nobody=NOBODY,
        change_word=label_forms.change_word,
        tags_text=label_forms.tags_text,
    )


def _suffix(request: Request) -> str:
    return forms.harvest_suffix(forms.harvest_choice(request.query_params))
