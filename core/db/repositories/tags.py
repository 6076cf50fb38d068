"""Tags: listed with their features counted, given to many features at once, renamed and merged."""

from collections.abc import Collection, Iterable

from sqlalchemy import Integer, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from core.db.models.label import LabelledSae, LabelRow, LabelTag, Tag
from core.db.repositories import labels
from core.db.repositories.evidence import one_of
from core.domain.label import ChangeKind, TagCard, TagPlace
from core.errors import Conflict, NotFound

_UNWATCHED = {"synchronize_session": False}


def list_tags(
    session: Session, *, model_id: str | None = None, sae_id: str | None = None
) -> tuple[TagCard, ...]:
    """Tags that features bear, by name; those of one model or one SAE where asked for."""
    counts = (
        select(LabelTag.tag_id, LabelTag.labelled_sae_id, func.count().label("n_features"))
        .group_by(LabelTag.tag_id, LabelTag.labelled_sae_id)
        .subquery()
    )
    query = (
        select(Tag.name, LabelledSae.model_id, LabelledSae.sae_id, counts.c.n_features)
        .join(counts, counts.c.tag_id == Tag.id)
        .join(LabelledSae, LabelledSae.id == counts.c.labelled_sae_id)
        .order_by(LabelledSae.model_id, LabelledSae.sae_id)
    )
    if model_id is not None:
        query = query.where(LabelledSae.model_id == model_id)
    if sae_id is not None:
        query = query.where(LabelledSae.sae_id == sae_id)
    places: dict[str, list[TagPlace]] = {}
    for row in session.execute(query):
        place = TagPlace(model_id=row.model_id, sae_id=row.sae_id, n_features=row.n_features)
        places.setdefault(row.name, []).append(place)
    return tuple(TagCard(name=name, places=tuple(places[name])) for name in sorted(places))


def get_tag(session: Session, name: str) -> TagCard:
    """One tag.

    Raises:
        NotFound: no feature bears it.
    """
    found = next((card for card in list_tags(session) if card.name == name), None)
    if found is None:
        raise _missing(name)
    return found


def tagged(session: Session, name: str, *, model_id: str, sae_id: str) -> tuple[int, ...]:
    """Features of an SAE that bear a tag, ascending."""
    query = (
        select(LabelTag.index)
        .join(Tag, Tag.id == LabelTag.tag_id)
        .join(LabelledSae, LabelledSae.id == LabelTag.labelled_sae_id)
        .where(Tag.name == name, LabelledSae.model_id == model_id, LabelledSae.sae_id == sae_id)
        .order_by(LabelTag.index)
    )
    return tuple(session.execute(query).scalars())


def change(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    indices: Iterable[int],
    add: Collection[str] = (),
    remove: Collection[str] = (),
    author: str,
) -> int:
    """Give and take tags of many features of an SAE; how many features that changed."""
    sae = labels.hold(session, model_id=model_id, sae_id=sae_id)
    chosen = sorted(set(indices))
    changed = _take(session, sae, chosen, remove) | _give(session, sae, chosen, add)
    if changed:
        labels.touch(session, sae, sorted(changed), author=author, kind=ChangeKind.TAGGING)
    return len(changed)


def rename(session: Session, name: str, new: str, *, author: str) -> None:
    """Give a tag another name.

    Raises:
        NotFound: no feature bears it.
        Conflict: there is a tag of the new name; merge them.
    """
    bearers = _bearers(session, name)
    both = select(Tag.id).where(Tag.name.in_([name, new])).order_by(Tag.id).with_for_update()
    session.execute(both).all()  # nobody is giving them meanwhile
    borne = select(LabelTag.index).join(Tag).where(Tag.name == new).limit(1)
    if session.execute(borne).first() is not None:
        raise Conflict(
            f"There is a tag {new!r} already.", hint="Merge the two, or choose another name."
        )
    _call(session, name, new)
    _touch_all(session, bearers, author=author, kind=ChangeKind.RENAME)


def merge(session: Session, name: str, into: str, *, author: str) -> None:
    """Let features that bear one tag bear another in its place.

    Raises:
        NotFound: no feature bears one of them.
    """
    bearers, others = _bearers(session, name), _bearers(session, into)
    if sum(map(len, bearers.values())) <= sum(map(len, others.values())):
        _move(session, name, into)
    else:  # the fewer move, then the many take the name
        _move(session, into, name)
        _call(session, name, into)
    _touch_all(session, bearers, author=author, kind=ChangeKind.RENAME)


def remove(session: Session, name: str, *, author: str) -> int:
    """Take a tag from every feature; how many bore it. Names and notes stay.

    Raises:
        NotFound: no feature bears it.
    """
    bearers = _bearers(session, name)
    (tag,) = labels.tag_ids(session, [name]).values()
    session.execute(delete(LabelTag).where(LabelTag.tag_id == tag), execution_options=_UNWATCHED)
    _touch_all(session, bearers, author=author, kind=ChangeKind.REMOVAL)
    return sum(map(len, bearers.values()))


def _give(session: Session, sae: int, indices: list[int], names: Collection[str]) -> set[int]:
    if not names or not indices:
        return set()
    each = func.unnest(literal(indices, ARRAY(Integer))).label("index")
    empty = select(literal(sae), each, literal(0), literal(""), literal(""), literal(""))
    columns = ["labelled_sae_id", "index", "version", "name", "note", "author"]
    session.execute(insert(LabelRow).from_select(columns, empty).on_conflict_do_nothing())
    changed: set[int] = set()
    for tag in labels.tag_ids(session, names).values():
        rows = select(literal(tag), literal(sae), each)
        given = insert(LabelTag).from_select(["tag_id", "labelled_sae_id", "index"], rows)
        new = given.on_conflict_do_nothing().returning(LabelTag.index)
        changed |= set(session.execute(new).scalars())
    return changed


def _take(session: Session, sae: int, indices: list[int], names: Collection[str]) -> set[int]:
    if not names or not indices:
        return set()
    ids = select(Tag.id).where(Tag.name.in_(list(names)))
    gone = (
        delete(LabelTag)
        .where(LabelTag.labelled_sae_id == sae, LabelTag.index == one_of(indices))
        .where(LabelTag.tag_id.in_(ids))
        .returning(LabelTag.index)
    )
    return set(session.execute(gone, execution_options=_UNWATCHED).scalars())


def _bearers(session: Session, name: str) -> dict[int, list[int]]:
    """Features that bear a tag, by the key of their SAE; their labels are held.

    Raises:
        NotFound: none does.
    """
    at_all = select(LabelTag.labelled_sae_id).join(Tag).where(Tag.name == name)
    held = select(LabelledSae.id).where(LabelledSae.id.in_(at_all)).order_by(LabelledSae.id)
    session.execute(held.with_for_update(key_share=True)).all()
    query = (
        select(LabelTag.labelled_sae_id, LabelTag.index)
        .join(Tag)
        .where(Tag.name == name)
        .order_by(LabelTag.labelled_sae_id, LabelTag.index)
    )
    found: dict[int, list[int]] = {}
    for sae, index in session.execute(query):
        found.setdefault(sae, []).append(index)
    if not found:
        raise _missing(name)
    return found


def _call(session: Session, name: str, new: str) -> None:
    """Give a tag a name that nobody bears: one row, however many features there are."""
    session.execute(delete(Tag).where(Tag.name == new), execution_options=_UNWATCHED)
    renamed = update(Tag).where(Tag.name == name).values(name=new)
    session.execute(renamed, execution_options=_UNWATCHED)


def _move(session: Session, name: str, into: str) -> None:
    ids = labels.tag_ids(session, [name, into])
    old, new = ids[name], ids[into]
    rows = select(literal(new), LabelTag.labelled_sae_id, LabelTag.index)
    moved = insert(LabelTag).from_select(
        ["tag_id", "labelled_sae_id", "index"], rows.where(LabelTag.tag_id == old)
    )
    session.execute(moved.on_conflict_do_nothing())
    session.execute(delete(LabelTag).where(LabelTag.tag_id == old), execution_options=_UNWATCHED)


def _touch_all(
    session: Session, bearers: dict[int, list[int]], *, author: str, kind: ChangeKind
) -> None:
    for sae, indices in bearers.items():
        labels.touch(session, sae, indices, author=author, kind=kind)


def _missing(name: str) -> NotFound:
    return NotFound(f"No feature bears the tag {name!r}.", hint="See the list of tags.")
