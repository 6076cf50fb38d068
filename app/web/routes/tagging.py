"""Tagging many features of an SAE: those that are ticked, the first of a list, all that match."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import QueryParams

from app.deps import SessionDep
from app.services.drift import drifts
from app.services.features import catalog
from app.services.labels import tags
from app.services.preferences import contrasts
from app.services.problems import FieldProblem
from app.web import contrast_rows, forms, label_forms, moved_form, render
from app.web.author import author_of, keep_author
from app.web.label_forms import TagOrder
from app.web.routes.jobs import PostedDep
from core.db.session import Session
from core.errors import Invalid

router = APIRouter()

SECTION = "features"
MOST_FIRST = 1_000


@router.post("/{model_id}/{sae_id}/tag")
def tag_chosen(
    request: Request, session: SessionDep, model_id: str, sae_id: str, posted: PostedDep
) -> Response:
    """Gives or takes tags of the features that a form names, and goes back to its page."""
    base = f"/{model_id}/{sae_id}"
    taking = request.query_params.get("do") == "remove"
    order = label_forms.tag_order(posted, base=base, taking=taking, author=author_of(request))
    done = tags.tag_features(
        session,
        model_id=model_id,
        sae_id=sae_id,
        indices=[*order.indices, *_first(session, order, sae_id)],
        add=order.add,
        remove=order.remove,
        author=order.author,
    )
    back = render.local_path(order.back, default=base)
    kept = [(name, value) for name, value in order.params.multi_items() if name != "tagged"]
    path = back.partition("?")[0]
    target = render.with_query(path, [*kept, ("tagged", str(done.n_changed))])
    # A redirect for htmx too: it fetches the fragment of the page that it comes from.
    return RedirectResponse(target, 303)


@router.get("/{model_id}/{sae_id}/tag")
def ask_all(request: Request, session: SessionDep, model_id: str, sae_id: str) -> Response:
    """Asks which tags all features that match the filters of the list shall get or lose."""
    return _ask_page(request, session, model_id, sae_id, params=request.query_params)


@router.post("/{model_id}/{sae_id}/tag/all")
def tag_all(
    request: Request, session: SessionDep, model_id: str, sae_id: str, posted: PostedDep
) -> Response:
    """Tags all that match, if there are still as many as the reader was told."""
    fields = dict(posted)
    params = QueryParams(fields.get("query", ""))
    found = _matching(session, model_id, sae_id, params)
    taking = fields.get("do") == "remove"
    typed = fields.get("tags", "")
    author = fields.get("author", "")
    shared: dict[str, Any] = {"params": params, "typed": typed, "author": author}
    if str(len(found)) != fields.get("n"):
        return _ask_page(request, session, model_id, sae_id, moved=True, status=409, **shared)
    order = label_forms.tag_order(
        [("tags", typed)], base=f"/{model_id}/{sae_id}", taking=taking, author=author
    )
    try:
        done = tags.tag_features(
            session,
            model_id=model_id,
            sae_id=sae_id,
            indices=found,
            add=order.add,
            remove=order.remove,
            author=author,
        )
    except Invalid as error:
        problem = FieldProblem.of("tags", error)
        return _ask_page(
            request, session, model_id, sae_id, problems=(problem,), status=422, **shared
        )
    kept = [(name, value) for name, value in params.multi_items() if name != "after"]
    told_now = [*kept, ("tagged", str(done.n_changed))]
    response = RedirectResponse(render.with_query(f"/{model_id}/{sae_id}", told_now), 303)
    keep_author(response, author)
    return response


def _first(session: Session, order: TagOrder, sae_id: str) -> tuple[int, ...]:
    """The first features of the list that the form stands below, as it is ordered."""
    if not order.first or order.source is None:
        return ()
    if order.first > MOST_FIRST:
        raise Invalid(
            f"{order.first} features are not possible.", hint=f"Choose 1 to {MOST_FIRST}."
        )
    kind, number = order.source
    if kind == "contrast":
        form = contrast_rows.contrast_form(order.params)
        asked = replace(form.query, limit=order.first, after=None)
        rows = contrasts.list_rows(session, number, sae_id=sae_id, query=asked).rows
        return tuple(row.index for row in rows)
    moved = moved_form.moved_form(order.params)
    wanted = replace(moved.query, limit=order.first, after=None)
    changed = drifts.list_rows(session, number, sae_id=sae_id, query=wanted).rows
    return tuple(row.index for row in changed)


def _matching(session: Session, model_id: str, sae_id: str, params: QueryParams) -> tuple[int, ...]:
    form = forms.list_form(params)
    forms.check_filters(form.problems)
    return tags.matching(
        session,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=forms.harvest_choice(params),
        query=form.query,
    )


def _ask_page(
    request: Request,
    session: Session,
    model_id: str,
    sae_id: str,
    *,
    params: QueryParams,
    typed: str = "",
    author: str | None = None,
    problems: tuple[FieldProblem, ...] = (),
    moved: bool = False,
    status: int = 200,
) -> Response:
    sae = catalog.get_sae(
        session, model_id=model_id, sae_id=sae_id, harvest_id=forms.harvest_choice(params)
    )
    found = _matching(session, model_id, sae_id, params)
    kept = [(name, value) for name, value in params.multi_items() if name not in {"after", "lang"}]
    base = f"/{model_id}/{sae_id}"
    return render.page(
        request,
        "label/tag_all.html",
        section=SECTION,
        status=status,
        sae=sae,
        base=base,
        back=render.with_query(base, kept),
        query=render.with_query("", kept).removeprefix("?"),
        form=forms.list_form(params),
        n=len(found),
        typed=typed,
        author=author_of(request, author),
        problems=problems,
        moved=moved,
    )
