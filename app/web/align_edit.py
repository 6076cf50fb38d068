"""What the buttons inside the launch form do: rows of SAEs, and features found for them."""

from collections.abc import Sequence

from app.services.align import finder as align_finder
from app.services.align.offers import Offers
from app.services.labels import tags
from app.services.problems import FieldProblem
from app.web import align_features
from app.web.align_form import AlignForm
from app.web.i18n import gettext
from core.db.session import Session
from core.domain.alignment import TagSource, Treated
from core.domain.feature_choice import sources_left
from core.errors import SparsightError

Target = str  # held or free


def edited(
    form: AlignForm, action: str, picks: Sequence[str], *, offers: Offers, session: Session
) -> AlignForm | None:
    """The form after a button of its own; None for a button that is not one of these."""
    name, _, rest = action.partition(".")
    match name:
        case "add":
            return form.with_row()
        case "remove" if rest.isdigit():
            return form.without_row(int(rest))
        case "pick":
            return with_layers(form, picks, offers)
        case "find" | "top" | "tag":
            return _found(form, name, rest, offers=offers, session=session)
        case _:
            return None


def with_layers(form: AlignForm, picks: Sequence[str], offers: Offers) -> AlignForm:
    """The form with exactly these known SAEs beside those that are written out."""
    rows = range(form.n_saes)
    have = {row: form.text(f"constraint.{row}.pick") for row in rows}
    known = {row: key for row, key in have.items() if offers.sae(key) is not None}
    for row in sorted((r for r, key in known.items() if key not in picks), reverse=True):
        form = form.without_row(row)
    for key in picks:
        if key not in known.values() and offers.sae(key) is not None:
            form = with_sae(form, key)
    return form


def with_sae(form: AlignForm, key: str) -> AlignForm:
    """The form with one more row for a known SAE."""
    row = form.n_saes
    return form.with_row().with_text({f"constraint.{row}.pick": key})


def with_features(
    form: AlignForm, features: Sequence[str], treat: str, offers: Offers
) -> AlignForm:
    """The form with features, named by their ids, held or free.

    Args:
        form: as it is.
        features: ids; those of SAEs that are not known are passed over.
        treat: held, only (held, and no others), or free.
        offers: the known SAEs.
    """
    by_sae: dict[str, list[int]] = {}
    for feature in features:
        key, _, index = feature.rpartition("/")
        if offers.sae(key) is not None and index.isascii() and index.isdigit() and len(index) < 10:
            by_sae.setdefault(key, []).append(int(index))
    for key, indices in by_sae.items():
        rows = [r for r in range(form.n_saes) if form.text(f"constraint.{r}.pick") == key]
        if not rows:
            form = with_sae(form, key)
        row = rows[0] if rows else form.n_saes - 1
        form = _listed(form, row, "free" if treat == "free" else "held", indices)
        if treat == "only":
            form = form.with_text({f"constraint.{row}.others": "0"})
    return form


def with_tag(
    form: AlignForm, tag: str, key: str, treat: str, *, offers: Offers, session: Session
) -> AlignForm:
    """The form with every feature of a known SAE that bears a tag, held or free.

    Args:
        form: as it is.
        tag: name of the tag.
        key: model and SAE; one that is not known is passed over.
        treat: held, only (held, and no others), or free.
        offers: the known SAEs.
        session: the database.
    """
    sae = offers.sae(key)
    if sae is None:
        return form
    rows = [r for r in range(form.n_saes) if form.text(f"constraint.{r}.pick") == key]
    form = form if rows else with_sae(form, key)
    row = rows[0] if rows else form.n_saes - 1
    try:
        found = tags.bearers(session, tag, model_id=sae.card.model_id, sae_id=sae.sae_id)
    except SparsightError as error:
        path = f"constraint.{row}.tag.name"
        problem = FieldProblem.of(path, error)
        return form.with_text({path: tag}).with_problems([problem])
    target = "free" if treat == "free" else "held"
    form = _from_tag(_listed(form, row, target, found), row, target, tag, found)
    return form.with_text({f"constraint.{row}.others": "0"}) if treat == "only" else form


def _from_tag(
    form: AlignForm, row: int, target: Target, tag: str, features: Sequence[int]
) -> AlignForm:
    """The form with a note that features of one of a row's lists came from a tag."""
    source = TagSource(tag=tag, treatment=Treated(target), features=tuple(features))
    held, free = (
        align_features.indices_in(form.text(f"constraint.{row}.{name}"))
        for name in ("held", "free")
    )
    left = sources_left([*align_features.sources(form.typed, row), source], held=held, free=free)
    return form.with_text({f"constraint.{row}.from_tags": align_features.written_sources(left)})


def _listed(
    form: AlignForm,
    row: int,
    target: Target,
    indices: Sequence[int],
    weight: float | None = None,
) -> AlignForm:
    """The form with more features in one of a row's lists, and out of the other.

    A weight counts for held ones that stand there already too.
    """
    other = "free" if target == "held" else "held"
    names = {part: f"constraint.{row}.{part}" for part in (target, other)}
    before = form.text(names[target])
    more = (
        align_features.add_to_list(before, indices)
        if weight is None or target == "free"
        else align_features.put_in_list(before, indices, weight)
    )
    return form.with_text(
        {
            names[target]: more,
            names[other]: align_features.take_from_list(form.text(names[other]), indices),
            f"constraint.{row}.treat": align_features.SOME,
        }
    )


def _found(
    form: AlignForm, how: str, rest: str, *, offers: Offers, session: Session
) -> AlignForm | None:
    place, _, target = rest.partition(".")
    if not place.isdigit() or target not in {"held", "free"}:
        return None
    row = int(place)
    if how == "tag":
        return _tagged(form, row, target, offers=offers, session=session)
    at = f"constraint.{row}.{how}"
    path = f"{at}.{'words' if how == 'find' else 'contrast'}"
    count = form.text(f"{at}.n")
    limit = int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 0
    look = _by_words if how == "find" else _foremost
    try:
        indices = look(form, row, limit, offers=offers, session=session)
    except SparsightError as error:
        problem = FieldProblem.of(path, error)
        return form.with_problems([problem])
    return _listed(form, row, target, indices)


def _tagged(
    form: AlignForm, row: int, target: Target, *, offers: Offers, session: Session
) -> AlignForm:
    """The form with the features of the tag that stands in a row, of the weight beside it."""
    at = f"constraint.{row}.tag"
    tag, typed = form.text(f"{at}.name"), form.text(f"{at}.weight").strip() or "1"
    try:
        weight = float(typed.replace(",", "."))
    except ValueError:
        weight = 0.0
    if not 1.0 <= weight < float("inf"):
        wrong = FieldProblem(path=f"{at}.weight", message=gettext("Write 1 or more."))
        return form.with_problems([wrong])
    model_id, sae_id = _sae_of(form, row, offers)
    try:
        found = tags.bearers(session, tag, model_id=model_id, sae_id=sae_id)
    except SparsightError as error:
        problem = FieldProblem.of(f"{at}.name", error)
        return form.with_problems([problem])
    listed = _listed(form, row, target, found, weight)
    return _from_tag(listed, row, target, tag, found)


def _by_words(
    form: AlignForm, row: int, limit: int, *, offers: Offers, session: Session
) -> tuple[int, ...]:
    model_id, sae_id = _sae_of(form, row, offers)
    words = form.text(f"constraint.{row}.find.words")
    return align_finder.by_words(session, words, model_id=model_id, sae_id=sae_id, limit=limit)


def _foremost(
    form: AlignForm, row: int, limit: int, *, offers: Offers, session: Session
) -> tuple[int, ...]:
    chosen = form.text(f"constraint.{row}.top.contrast")
    _, sae_id = _sae_of(form, row, offers)
    return align_finder.foremost(
        session,
        int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 10 else 0,
        sae_id=sae_id,
        side=form.text(f"constraint.{row}.top.side") or "both",
        limit=limit,
    )


def _sae_of(form: AlignForm, row: int, offers: Offers) -> tuple[str, str]:
    """Model and SAE id of a row."""
    known = offers.sae(form.text(f"constraint.{row}.pick"))
    if known is not None:
        return known.card.model_id, known.sae_id
    return form.text("model_id"), form.text(f"constraint.{row}.sae_id")
