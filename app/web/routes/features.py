"""Models, feature lists and feature pages, their raw views and files."""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from app.deps import ResourcesDep, SessionDep
from app.downloads import download
from app.services.drift import change_export, feature_drifts
from app.services.drift.feature_drifts import FeatureDrifts
from app.services.explain import explanations
from app.services.features import catalog, export, features
from app.services.features.export import MEDIA_TYPES, ExportFormat
from app.services.labels import labels
from app.web import charts, context_changes, forms, render, rows, snippets
from app.web.forms import ContextOptions, Shown, View
from app.web.routes.explanations import panel_context
from core.db.session import Session
from core.domain.harvest import HarvestInfo
from core.domain.ids import FeatureId
from core.domain.views import FeatureCard, FeaturePage, ModelCard, SaeCard
from core.domain.views_explain import ExplanationCard
from core.errors import NotFound

router = APIRouter()

SECTION = "features"
HARVESTS_OFFERED = 20
Index = Annotated[int, Path(ge=0, le=999_999_999)]


@router.get("/{model_id}")
def model(request: Request, session: SessionDep, model_id: str) -> Response:
    """One model with its SAEs and harvests."""
    card = catalog.get_model(session, model_id)
    said = catalog.count_said(session)
    return render.page(request, "home/model.html", section=SECTION, model=card, said=said)


@router.get("/{model_id}/{sae_id}/random")
def random_feature(request: Request, session: SessionDep, model_id: str, sae_id: str) -> Response:
    """Moves to a living feature, each as likely as another."""
    harvest_id = forms.harvest_choice(request.query_params)
    found = features.random_feature(
        session,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=harvest_id,
        rng=random.Random(),  # noqa: S311  (nothing secret)
    )
    response = render.redirect(request, f"/{found}{forms.kept_state(request.query_params)}")
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/{model_id}/{sae_id}.{form}", response_model=None)
def list_file(
    request: Request, resources: ResourcesDep, model_id: str, sae_id: str, form: ExportFormat
) -> Response:
    """The features that the list's filters leave, as a file."""
    form_of_list = forms.list_form(request.query_params)
    forms.check_filters(form_of_list.problems)
    pieces = export.list_export(
        resources.scope,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=forms.harvest_choice(request.query_params),
        query=form_of_list.query,
        form=form,
    )
    return download(pieces, name=f"{model_id}_{sae_id}.{form}", media_type=MEDIA_TYPES[form])


@router.get("/{model_id}/{sae_id}")
def list_features(request: Request, session: SessionDep, model_id: str, sae_id: str) -> Response:
    """The features of an SAE, filtered and sorted."""
    harvest_id = forms.harvest_choice(request.query_params)
    form = forms.list_form(request.query_params)
    model = catalog.get_model(session, model_id)
    sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    base = f"/{model_id}/{sae_id}"
    common: dict[str, Any] = {
        "section": SECTION,
        "model": model,
        "sae": sae,
        "form": form,
        "base": base,
        "suffix": _suffix(harvest_id),
        "harvests": _harvests_of(session, model, sae_id),
    }
    if sae.harvest is None:
        return render.page(request, "feature/unharvested.html", **common)
    words = catalog.vocabulary(session, model_id=model_id, revision=sae.harvest.model_revision)
    found = None
    if not form.problems:
        found = features.list_features(
            session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, query=form.query
        )
    cards = found.cards if found else ()
    numbers = features.scatter(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    return render.page(
        request,
        "feature/list.html",
        partial="feature/_table.html",
        status=422 if form.problems else 200,
        found=found,
        rows=rows.feature_rows(
            cards,
            words,
            rows.Said(
                explanations=_foremost(session, sae, cards, form.query.words),
                labels=labels.of_features(
                    session,
                    model_id=model_id,
                    sae_id=sae_id,
                    indices=[card.stats.index for card in cards],
                ),
            ),
            base=base,
            suffix=_suffix(harvest_id),
        ),
        chart=charts.density_chart(numbers.density),
        density_link=lambda bar: render.here(request).link(
            dmin=charts.percent_text(bar.low), dmax=charts.percent_text(bar.high), after=None
        ),
        **common,
    )


@router.get("/{model_id}/{sae_id}/{index}.{form}", response_model=None)
def feature_file(
    request: Request,
    session: SessionDep,
    model_id: str,
    sae_id: str,
    index: Index,
    form: ExportFormat,
) -> Response:
    """Every stored context of a feature, as a file; with a run, in both models and the change."""
    feature = FeatureId(model_id=model_id, sae_id=sae_id, index=index)
    options = forms.context_options(request.query_params)
    include_random = options.band == "random"
    if options.run is not None or options.show is not Shown.BASE:  # in both models
        pieces = change_export.change_export(
            session, feature=feature, run=options.run, include_random=include_random, form=form
        )
    else:
        pieces = export.feature_export(
            session,
            feature=feature,
            harvest_id=forms.harvest_choice(request.query_params),
            include_random=include_random,
            form=form,
        )
    name = str(feature).replace("/", "_")
    return download(pieces, name=f"{name}.{form}", media_type=MEDIA_TYPES[form])


@router.get("/{model_id}/{sae_id}/{index}")
def show(
    request: Request, session: SessionDep, model_id: str, sae_id: str, index: Index
) -> Response:
    """One feature: statistics, histogram, logits, neighbours and contexts."""
    feature = FeatureId(model_id=model_id, sae_id=sae_id, index=index)
    harvest_id = forms.harvest_choice(request.query_params)
    options = forms.context_options(request.query_params)
    drifts = feature_drifts.feature_drifts(session, feature, run=options.run)
    if drifts.harvest_id is None:
        options = replace(options, show=Shown.BASE)
    elif options.show is not Shown.BASE:
        harvest_id = drifts.harvest_id
    page = features.feature_page(
        session,
        feature=feature,
        harvest_id=harvest_id,
        include_random=options.band == "random",
    )
    words = catalog.page_vocabulary(session, page)
    shown = _shown(session, page, feature, drifts, options)
    raw, changes = None, None
    if options.view is View.RAW and options.show is not Shown.BASE:
        changes = context_changes.raw_texts(shown, words, options)
    elif options.view is View.RAW:
        raw = features.raw_records(
            session,
            feature=feature,
            harvest_id=page.harvest.harvest_id,
            band=options.wanted,
            only_nonzero=options.nonzero,
        )
    return render.page(
        request,
        "feature/show.html",
        partial="feature/_looked_at.html",
        section=SECTION,
        page=page,
        state=forms.kept_state(request.query_params),
        vocabulary=words,
        options=options,
        raw=raw,
        changes=changes,
        rows=() if raw or changes else rows.context_rows(shown, words, options, base=page),
        drifts=drifts,
        change_scale=context_changes.largest_change(shown),
        base=f"/{model_id}/{sae_id}",
        near=_near(session, page),
        named={
            index: found.text.name
            for index, found in labels.of_features(
                session, model_id=model_id, sae_id=sae_id, indices=_neighbours(page)
            ).items()
        },
        **panel_context(session, feature, harvest_id=harvest_id),
        peaks=rows.peak_tokens(page),
        **_drawings(page),
        snippet=snippets.feature_snippet(str(request.base_url), feature, harvest_id=harvest_id),
        citation=snippets.feature_citation(str(request.base_url), page),
    )


def _shown(
    session: Session,
    page: FeaturePage,
    feature: FeatureId,
    drifts: FeatureDrifts,
    options: ContextOptions,
) -> FeaturePage:
    """The page with its contexts in the model that was asked for."""
    if drifts.chosen is None or options.show is Shown.BASE:
        return page
    compared = feature_drifts.compared_contexts(
        session, feature, drifts.chosen, include_random=options.band == "random"
    )
    return context_changes.shown_page(page, compared, options.show)


def _foremost(
    session: Session, sae: SaeCard, cards: Sequence[FeatureCard], words: str | None
) -> dict[int, ExplanationCard]:
    """The explanation of each feature of a list: one that holds the words before others."""
    indices = [card.stats.index for card in cards]
    of_sae = {"model_id": sae.model_id, "sae_id": sae.sae_id}
    found = explanations.foremost_of(session, **of_sae, indices=indices)
    if words:
        found |= explanations.foremost_of(session, **of_sae, indices=indices, words=words)
    return found


def _near(session: Session, page: FeaturePage) -> dict[int, ExplanationCard]:
    """The explanations that stand for the neighbours of a page's feature."""
    return explanations.foremost_of(
        session,
        model_id=page.model_id,
        sae_id=page.sae.sae_id,
        indices=_neighbours(page),
    )


def _neighbours(page: FeaturePage) -> set[int]:
    return {neighbour.index for neighbour in (*page.coactivation, *page.decoder_cosine)}


def _drawings(page: FeaturePage) -> dict[str, Any]:
    """The charts of a feature's page; a dead feature has no histogram."""
    weights = [abs(weight.value) for weight in (*page.promoted, *page.suppressed)]
    largest = max(weights, default=0.0)
    return {
        "chart": None
        if page.stats.dead
        else charts.histogram_chart(page.histogram, maximum=page.stats.max_activation),
        "promoted": charts.weight_bars(page.promoted, largest=largest),
        "suppressed": charts.weight_bars(page.suppressed, largest=largest),
    }


def _harvests_of(session: Session, model: ModelCard, sae_id: str) -> tuple[HarvestInfo, ...]:
    """The newest harvests of a model that hold an SAE."""
    found = []
    for harvest in model.harvests[:HARVESTS_OFFERED]:
        with suppress(NotFound):
            catalog.get_sae(
                session, model_id=model.model_id, sae_id=sae_id, harvest_id=harvest.harvest_id
            )
            found.append(harvest)
    return tuple(found)


def _suffix(harvest_id: int | None) -> str:
    return "" if harvest_id is None else f"?harvest={harvest_id}"
