"""Explanations and scores: read, compared, written, edited and deleted by people."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.deps import SessionDep
from app.services.explain import endpoints, explanations
from app.services.features import catalog, features
from app.services.labels import labels
from app.services.problems import FieldProblem
from app.web import explanation_rows, forms, render, rows
from app.web.author import author_of, keep_author
from app.web.i18n import gettext
from app.web.routes.explaining import FeatureDep
from app.web.routes.jobs import PostedDep
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.views_explain import (
    EndpointCard,
    ExplanationCard,
    ExplanationDetails,
    ScoreCard,
)
from core.errors import Conflict, Invalid, NotFound

router = APIRouter()

SECTION = "features"
_MAX_ID = 2**31 - 1
ExplanationId = Annotated[int, Path(ge=1, le=_MAX_ID)]
ScoreId = Annotated[int, Path(ge=1, le=_MAX_ID)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """A person's text under way.

    Attributes:
        action: where it is sent.
        back: where Cancel leads.
        version: of the explanation that it will replace; 0 for a new one.
        place: the explanation in whose place on the page the form stands; 0 for a new one.
        present: what the explanation has become meanwhile; None unless somebody was faster.
        gone: whether it was deleted meanwhile.
    """

    feature: FeatureId
    action: str
    back: str
    text: str
    author: str
    version: int = 0
    place: int = 0
    problems: tuple[FieldProblem, ...] = ()
    present: ExplanationCard | None = None
    gone: bool = False


@router.get("/explanations/{explanation_id:int}")
def show(request: Request, session: SessionDep, explanation_id: ExplanationId) -> Response:
    """One explanation with its scores, its history and what it was made from."""
    details = explanations.get_explanation(session, explanation_id)
    card = details.card
    seen, scale = _seen(session, details)
    return render.page(
        request,
        "explanation/show.html",
        section=SECTION,
        details=details,
        versions=explanations.history(session, card),
        n_present=len(explanations.list_explanations(session, card.feature)),
        endpoint=_endpoint(session, card),
        rows=seen,
        scale=scale,
    )


@router.get("/scores/{score_id:int}")
def score(request: Request, session: SessionDep, score_id: ScoreId) -> Response:
    """One score with every simulated or judged example behind it."""
    details = explanations.get_score(session, score_id)
    pairs = explanation_rows.pair_groups(details)
    return render.page(
        request,
        "explanation/score.html",
        section=SECTION,
        details=details,
        floors=[floor for floor in explanation_rows.FLOORS if floor in details.card.score.floors],
        scale=explanation_rows.real_scale(details),
        scale_top=max((example.scale_top for example in details.simulated), default=10),
        pairs=pairs,
        judged=explanation_rows.judged_groups(details),
        line=explanation_rows.calibration_line(details),
        n_calibration=sum(len(group.rows) for group in pairs if group.name == "calibration"),
        endpoint=_endpoint(session, details.card),
    )


@router.get("/{model_id}/{sae_id}/{index}/compare")
def compare(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """Explanations of a feature side by side; those chosen, else the foremost ones."""
    found = explanations.list_explanations(session, feature)
    chosen = _chosen(found, request.query_params.getlist("e"))
    harvest_id = forms.harvest_choice(request.query_params)
    return render.page(
        request,
        "explanation/compare.html",
        section=SECTION,
        feature=feature,
        all=found,
        cards=chosen,
        lines=explanation_rows.compare(chosen),
        harvest=harvest_id,
        suffix=forms.harvest_suffix(harvest_id),
    )


@router.get("/{model_id}/{sae_id}/{index}/explanations/new")
def new(request: Request, session: SessionDep, feature: FeatureDep) -> Response:
    """The form of a person's own explanation."""
    explanations.list_explanations(session, feature)
    return _form_page(request, _new_form(request, feature))


@router.post("/{model_id}/{sae_id}/{index}/explanations")
def add(request: Request, session: SessionDep, feature: FeatureDep, posted: PostedDep) -> Response:
    """Keeps a person's explanation, or shows the form again with what has to be mended."""
    fields = dict(posted)
    text, author = fields.get("text", ""), fields.get("author", "")
    try:
        card = explanations.add_human(session, feature, text=text, author=author)
    except Invalid as error:
        form = _new_form(request, feature, text=text, author=author, problem=error)
        return _form_page(request, form, status=422)
    return _changed(request, session, card, toast=gettext("Explanation saved."))


@router.get("/explanations/{explanation_id:int}/edit")
def edit(request: Request, session: SessionDep, explanation_id: ExplanationId) -> Response:
    """The form in which a person changes an explanation."""
    card = explanations.get_explanation(session, explanation_id).card
    present = explanations.history(session, card)[0]
    return _form_page(
        request, _edit_form(request, present, text=present.explanation.text, place=explanation_id)
    )


@router.post("/explanations/{explanation_id:int}/edit")
def save(
    request: Request, session: SessionDep, explanation_id: ExplanationId, posted: PostedDep
) -> Response:
    """Keeps a person's change; when somebody was faster, both texts are shown and none is lost."""
    fields = dict(posted)
    text, author = fields.get("text", ""), fields.get("author", "")
    version, place = _number(fields, "version"), _number(fields, "place") or explanation_id
    try:
        changed = explanations.edit(
            session, explanation_id, text=text, version=version, author=author
        )
    except Invalid as error:
        card = explanations.get_explanation(session, explanation_id).card
        form = _edit_form(request, card, text=text, author=author, place=place, problem=error)
        return _form_page(request, form, status=422)
    except Conflict:
        card = explanations.get_explanation(session, explanation_id).card
        present = explanations.history(session, card)[0]
        form = _edit_form(request, present, text=text, author=author, place=place, late=True)
        return _form_page(request, form, status=409)
    except NotFound:
        form = _lost_form(request, fields, place=place)
        return _form_page(request, form, status=409)
    return _changed(request, session, changed, toast=gettext("Explanation saved."))


@router.get("/explanations/{explanation_id:int}/delete")
def ask_delete(request: Request, session: SessionDep, explanation_id: ExplanationId) -> Response:
    """Asks whether an explanation shall go."""
    card = explanations.get_explanation(session, explanation_id).card
    harvest_id = forms.harvest_choice(request.query_params)
    return render.page(
        request,
        "explanation/delete.html",
        partial="explanation/_delete.html",
        section=SECTION,
        card=card,
        suffix=forms.harvest_suffix(harvest_id),
        inline=render.is_partial(request),
    )


@router.post("/explanations/{explanation_id:int}/delete")
def delete(request: Request, session: SessionDep, explanation_id: ExplanationId) -> Response:
    """Deletes an explanation with its scores."""
    card = explanations.get_explanation(session, explanation_id).card
    explanations.delete(session, explanation_id)
    toast = gettext("Explanation deleted.")
    suffix = forms.harvest_suffix(forms.harvest_choice(request.query_params))
    return _changed(request, session, card, toast=toast, instead=f"/{card.feature}{suffix}")


def panel_context(
    session: Session, feature: FeatureId, *, harvest_id: int | None
) -> dict[str, Any]:
    """What the explanations' part of a feature's page shows."""
    found = explanations.list_explanations(session, feature)
    foremost = explanations.foremost(found)
    return {
        "feature": feature,
        "explanations": found,
        "foremost": foremost,
        "foremost_id": foremost.explanation_id if foremost else None,
        "label": labels.get_label(session, feature),
        "nobody": explanations.NOBODY,
        "suffix": forms.harvest_suffix(harvest_id),
    }


def _changed(
    request: Request,
    session: Session,
    card: ExplanationCard,
    *,
    toast: str,
    instead: str | None = None,
) -> Response:
    """The feature's explanations anew for htmx, else a redirect; the author's name is kept."""
    harvest_id = forms.harvest_choice(request.query_params)
    response = render.part(
        request,
        "explanation/_changed.html",
        instead=instead or f"/explanations/{card.explanation_id}",
        toast=toast,
        **panel_context(session, card.feature, harvest_id=harvest_id),
    )
    author = card.explanation.author
    if instead is None and author != explanations.NOBODY:
        keep_author(response, author)
    return response


def _form_page(request: Request, form: TextForm, *, status: int = 200) -> Response:
    heading = gettext("Edit an explanation") if form.version else gettext("Write an explanation")
    return render.page(
        request,
        "explanation/edit.html",
        partial="explanation/_form.html",
        section=SECTION,
        status=status,
        form=form,
        heading=heading,
        inline=render.is_partial(request),
    )


def _new_form(
    request: Request,
    feature: FeatureId,
    *,
    text: str = "",
    author: str | None = None,
    problem: Invalid | None = None,
) -> TextForm:
    suffix = forms.harvest_suffix(forms.harvest_choice(request.query_params))
    return TextForm(
        feature=feature,
        action=f"/{feature}/explanations{suffix}",
        back=f"/{feature}{suffix}",
        text=text,
        author=author_of(request, author),
        problems=_problems(problem),
    )


def _edit_form(
    request: Request,
    card: ExplanationCard,
    *,
    text: str,
    place: int,
    author: str | None = None,
    problem: Invalid | None = None,
    late: bool = False,
) -> TextForm:
    suffix = forms.harvest_suffix(forms.harvest_choice(request.query_params))
    return TextForm(
        feature=card.feature,
        action=f"/explanations/{card.explanation_id}/edit{suffix}",
        back=f"/{card.feature}{suffix}",
        text=text,
        author=author_of(request, author),
        version=card.version,
        place=place,
        problems=_problems(problem),
        present=card if late else None,
    )


def _lost_form(request: Request, fields: dict[str, str], *, place: int) -> TextForm:
    """The text of an edit whose explanation is gone, ready to be kept as a new one."""
    feature = FeatureId.parse(fields.get("feature", ""))
    suffix = forms.harvest_suffix(forms.harvest_choice(request.query_params))
    return TextForm(
        feature=feature,
        action=f"/{feature}/explanations{suffix}",
        back=f"/{feature}{suffix}",
        text=fields.get("text", ""),
        author=author_of(request, fields.get("author")),
        place=place,
        gone=True,
    )


def _problems(error: Invalid | None) -> tuple[FieldProblem, ...]:
    if error is None:
        return ()
    return (FieldProblem.of("text", error),)


def _number(fields: dict[str, str], name: str) -> int:
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _chosen(found: Sequence[ExplanationCard], wanted: Sequence[str]) -> list[ExplanationCard]:
    """The explanations that an address names, else the foremost and those after it."""
    named = [card for card in found if str(card.explanation_id) in wanted]
    if len(named) >= 2:
        return named[: explanation_rows.MOST_COMPARED]
    grouped = [card for group in explanation_rows.by_method(found) for card in group.cards]
    first = explanations.foremost(found)
    grouped.sort(key=lambda card: card not in named and card is not first)
    return grouped[: explanation_rows.MOST_COMPARED]


def _endpoint(session: Session, of: ExplanationCard | ScoreCard) -> EndpointCard | None:
    """The endpoint that was asked; None without one, or when it was deleted."""
    if of.endpoint_id is not None:
        with suppress(NotFound):
            return endpoints.get_endpoint(session, of.endpoint_id)
    return None


def _seen(
    session: Session, details: ExplanationDetails
) -> tuple[tuple[rows.ContextRow, ...], float]:
    """Heat maps of the contexts that an explainer saw, and the value of the strongest colour."""
    card = details.card
    if card.harvest_id is None or not details.context_indices:
        return (), 0.0
    try:
        page = features.feature_page(
            session, feature=card.feature, harvest_id=card.harvest_id, include_random=True
        )
    except NotFound:
        return (), 0.0
    words = catalog.page_vocabulary(session, page)
    found = rows.chosen_rows(page, words, frozenset(details.context_indices))
    return found, page.stats.max_activation
