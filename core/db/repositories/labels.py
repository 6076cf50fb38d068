"""Labels: read, found, and written with every change kept."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Insert,
    Text,
    and_,
    exists,
    func,
    inspect,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy import delete as delete_rows
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from core.db.models.label import LabelChangeRow, LabelledSae, LabelRow, LabelTag, Tag
from core.db.repositories.cards import AnyRow
from core.db.repositories.evidence import one_of
from core.domain.ids import FeatureId
from core.domain.label import (
    ChangeKind,
    Label,
    LabelChange,
    LabelQuery,
    LabelRecord,
    LabelText,
)
from core.errors import Conflict

_ROW = LabelRow
_NONE = LabelText()


def _tags_of(states: FromClause) -> ColumnElement[list[str]]:
    """The names of each label's tags, in any order."""
    names = (
        select(Tag.name)
        .join(LabelTag, LabelTag.tag_id == Tag.id)
        .where(LabelTag.labelled_sae_id == states.c.labelled_sae_id)
        .where(LabelTag.index == states.c.index)
        .correlate(states)
    )
    return func.array(names.scalar_subquery(), type_=ARRAY(Text))


_TAGS = _tags_of(inspect(_ROW).local_table)
_COLUMNS = (
    *(LabelledSae.model_id, LabelledSae.sae_id, _ROW.index.label("at"), _ROW.version),
    *(_ROW.name, _ROW.note, _ROW.author, _ROW.changed_at, _TAGS.label("tags")),
)


def get(session: Session, feature: FeatureId) -> Label:
    """The label of a feature; an empty one of version 0 where nobody wrote any."""
    found = of_features(
        session, model_id=feature.model_id, sae_id=feature.sae_id, indices=[feature.index]
    )
    none = Label(feature=feature, text=_NONE, author="", version=0, changed_at=None)
    return found.get(feature.index, none)


def count_named(session: Session) -> dict[tuple[str, str], int]:
    """How many features of each SAE have a name, by the ids of model and SAE."""
    query = (
        select(LabelledSae.model_id, LabelledSae.sae_id, func.count().label("n"))
        .join(LabelRow, LabelRow.labelled_sae_id == LabelledSae.id)
        .where(LabelRow.name != "")
        .group_by(LabelledSae.id)
    )
    return {(row.model_id, row.sae_id): row.n for row in session.execute(query)}


def of_features(
    session: Session, *, model_id: str, sae_id: str, indices: Collection[int]
) -> dict[int, Label]:
    """Labels of some features, by index; features that nobody ever labelled are absent."""
    if not indices:
        return {}
    query = (
        select(*_COLUMNS)
        .join(LabelledSae, LabelledSae.id == _ROW.labelled_sae_id)
        .where(LabelledSae.model_id == model_id, LabelledSae.sae_id == sae_id)
        .where(_ROW.index == one_of(list(indices)))
    )
    return {row.at: _label(row) for row in session.execute(query)}


def list_labels(session: Session, query: LabelQuery) -> tuple[Label, ...]:
    """Labels that say something, by model, SAE and index.

    SAE by SAE, so that each page is read by the labels' key however many there are.
    """
    found: list[Label] = []
    for sae, key in _places(session, query):
        left = query.limit - len(found)
        if not left:
            break
        chosen = (
            select(*_COLUMNS)
            .join(LabelledSae, LabelledSae.id == _ROW.labelled_sae_id)
            .where(_ROW.labelled_sae_id == sae)
            .where(or_(_ROW.name != "", _ROW.note != "", _bears(None)))
            .order_by(_ROW.index)
            .limit(left)
        )
        if query.tag is not None:
            chosen = chosen.where(_bears(query.tag))
        if query.after is not None and key == (query.after.model_id, query.after.sae_id):
            chosen = chosen.where(_ROW.index > query.after.index)
        found += map(_label, session.execute(chosen))
    return tuple(found)


def _places(session: Session, query: LabelQuery) -> list[tuple[int, tuple[str, str]]]:
    """Keys and ids of the SAEs that a list of labels goes through from its place on."""
    chosen = select(LabelledSae.id, LabelledSae.model_id, LabelledSae.sae_id)
    if query.model_id is not None:
        chosen = chosen.where(LabelledSae.model_id == query.model_id)
    if query.sae_id is not None:
        chosen = chosen.where(LabelledSae.sae_id == query.sae_id)
    rows = ((row.id, (row.model_id, row.sae_id)) for row in session.execute(chosen))
    first = ("", "") if query.after is None else (query.after.model_id, query.after.sae_id)
    return sorted((row for row in rows if row[1] >= first), key=lambda row: row[1])


def history(session: Session, feature: FeatureId) -> tuple[LabelChange, ...]:
    """Every state that a feature's label has had, the newest first."""
    row = LabelChangeRow
    query = (
        select(row)
        .join(LabelledSae, LabelledSae.id == row.labelled_sae_id)
        .where(LabelledSae.model_id == feature.model_id, LabelledSae.sae_id == feature.sae_id)
        .where(row.index == feature.index)
        .order_by(row.id.desc())
    )
    return tuple(
        LabelChange(
            text=LabelText(name=one.name, note=one.note, tags=tuple(sorted(one.tags))),
            author=one.author,
            version=one.version,
            kind=ChangeKind(one.kind),
            at=one.at,
        )
        for one in session.execute(query).scalars()
    )


def put(
    session: Session,
    feature: FeatureId,
    text: LabelText,
    *,
    author: str,
    version: int | None,
    kind: ChangeKind = ChangeKind.EDIT,
) -> Label:
    """A label's new text; the old one stays in its history.

    Args:
        session: the database.
        feature: whose label.
        text: all that it says from now on.
        author: who says so.
        version: of the label as it was read; None replaces whatever is there.
        kind: what changes it.

    Raises:
        Conflict: it was changed meanwhile.
    """
    hold(session, model_id=feature.model_id, sae_id=feature.sae_id)
    present = get(session, feature)
    if version is not None and present.version != version:
        raise Conflict(
            f"The label of feature {feature.index} was changed meanwhile.",
            hint="Read it again, then change the present one.",
        )
    record = LabelRecord(feature=feature, text=text, author=author, changed_at=None)
    write(session, [record], kind=kind)
    return get(session, feature)


def write(session: Session, records: Sequence[LabelRecord], *, kind: ChangeKind) -> None:
    """Put labels in the place of those that are there; all of one SAE, each feature once."""
    if not records:
        return
    first = records[0].feature
    sae = hold(session, model_id=first.model_id, sae_id=first.sae_id)
    rows = [
        {
            "labelled_sae_id": sae,
            "index": record.feature.index,
            "version": 1,
            "name": record.text.name,
            "note": record.text.note,
            "author": record.author,
            "changed_at": record.changed_at or func.now(),
        }
        for record in sorted(records, key=lambda record: record.feature)
    ]
    row = insert(_ROW).values(rows)
    new = {name: row.excluded[name] for name in ("name", "note", "author", "changed_at")}
    session.execute(
        row.on_conflict_do_update(
            index_elements=["labelled_sae_id", "index"],
            set_={**new, "version": _ROW.version + 1},
        )
    )
    _write_tags(session, sae, {record.feature.index: record.text.tags for record in records})
    note_changes(session, sae, [record.feature.index for record in records], kind=kind)


def note_changes(session: Session, sae: int, indices: Sequence[int], *, kind: ChangeKind) -> None:
    """Keep the present state of some labels of an SAE in their history."""
    state = select(_ROW).where(_ROW.labelled_sae_id == sae, _ROW.index == one_of(indices))
    session.execute(_keep(state.subquery(), kind))


def touch(
    session: Session, sae: int, indices: Sequence[int], *, author: str, kind: ChangeKind
) -> None:
    """Count a change of the tags of some labels of an SAE, and keep it in their history."""
    changed = (
        update(_ROW)
        .where(_ROW.labelled_sae_id == sae, _ROW.index == one_of(indices))
        .values(version=_ROW.version + 1, author=author, changed_at=func.now())
        .returning(_ROW)
    )
    session.execute(_keep(changed.cte("changed"), kind))


def _keep(states: FromClause, kind: ChangeKind) -> Insert:
    """The statement that copies states of labels, in the order of their features, to history."""
    copied = ("labelled_sae_id", "index", "version", "name", "note", "author")
    state = select(*(states.c[name] for name in copied), literal(kind.value), _tags_of(states))
    columns = [*copied, "kind", "tags"]
    return insert(LabelChangeRow).from_select(columns, state.order_by(states.c.index))


def hold(session: Session, *, model_id: str, sae_id: str) -> int:
    """The key of an SAE among those with labels; nobody else changes its labels meanwhile."""
    query = (
        select(LabelledSae.id)
        .where(LabelledSae.model_id == model_id, LabelledSae.sae_id == sae_id)
        .with_for_update(key_share=True)
    )
    found = session.execute(query).scalar_one_or_none()
    if found is None:
        new = insert(LabelledSae).values(model_id=model_id, sae_id=sae_id)
        session.execute(new.on_conflict_do_nothing())
        found = session.execute(query).scalar_one()
    return found


def tag_ids(session: Session, names: Collection[str]) -> dict[str, int]:
    """Keys of tags by their names; those that are not there yet are made.

    None of them gets another name before the transaction ends.
    """
    if not names:
        return {}
    wanted = sorted(set(names))
    new = insert(Tag).values([{"name": name} for name in wanted]).on_conflict_do_nothing()
    held = select(Tag.name, Tag.id).where(Tag.name.in_(wanted)).order_by(Tag.id)
    held = held.with_for_update(read=True, key_share=True)
    found: dict[str, int] = {}
    while len(found) < len(wanted):  # one may get another name between the two statements
        session.execute(new)
        found = {row.name: row.id for row in session.execute(held)}
    return found


def indices_saying(
    session: Session, *, model_id: str, sae_id: str, words: str, limit: int
) -> tuple[int, ...]:
    """Features of an SAE whose labels hold these words, ascending."""
    query = (
        select(_ROW.index)
        .join(LabelledSae, LabelledSae.id == _ROW.labelled_sae_id)
        .where(LabelledSae.model_id == model_id, LabelledSae.sae_id == sae_id, _says(words))
        .order_by(_ROW.index)
        .limit(limit)
    )
    return tuple(session.execute(query).scalars())


def says(
    *, model_id: str, sae_id: str, index: ColumnElement[int], words: str
) -> ColumnElement[bool]:
    """The condition that a feature's label holds all these words or, as a whole, this text."""
    return _has_label(model_id, sae_id, index, _says(words))


def labelled_as_asked(
    *,
    model_id: str,
    sae_id: str,
    index: ColumnElement[int],
    tags: Collection[str],
    labelled: bool | None,
) -> list[ColumnElement[bool]]:
    """Conditions of a list's filters by label; none where nothing is asked.

    Args:
        model_id: the model.
        sae_id: the SAE.
        index: the list's column with the features.
        tags: the features bear every one of these.
        labelled: True only features with a name, False only without, None both.
    """
    found = [_has_label(model_id, sae_id, index, _bears(tag)) for tag in tags]
    if labelled is not None:
        named = _has_label(model_id, sae_id, index, _ROW.name != "")
        found.append(named if labelled else ~named)
    return found


def _has_label(
    model_id: str, sae_id: str, index: ColumnElement[int], condition: ColumnElement[bool]
) -> ColumnElement[bool]:
    query = (
        select(_ROW.index)
        .join(LabelledSae, LabelledSae.id == _ROW.labelled_sae_id)
        .where(LabelledSae.model_id == model_id, LabelledSae.sae_id == sae_id)
        .where(_ROW.index == index, condition)
    )
    return exists(query)


def _says(words: str) -> ColumnElement[bool]:
    wanted = func.websearch_to_tsquery("simple", words)
    plain = (text.icontains(words, autoescape=True) for text in (_ROW.name, _ROW.note))
    return or_(_ROW.words.bool_op("@@")(wanted), *plain)


def _bears(tag: str | None) -> ColumnElement[bool]:
    """The condition that a label bears a tag; any tag for None."""
    query = select(LabelTag.tag_id).where(
        LabelTag.labelled_sae_id == _ROW.labelled_sae_id, LabelTag.index == _ROW.index
    )
    if tag is not None:
        query = query.where(
            LabelTag.tag_id == select(Tag.id).where(Tag.name == tag).scalar_subquery()
        )
    return exists(query.correlate(_ROW))


def _write_tags(session: Session, sae: int, tags: Mapping[int, Sequence[str]]) -> None:
    """Give features of an SAE exactly these tags."""
    gone = and_(LabelTag.labelled_sae_id == sae, LabelTag.index == one_of(sorted(tags)))
    session.execute(
        delete_rows(LabelTag).where(gone), execution_options={"synchronize_session": False}
    )
    ids = tag_ids(session, {name for names in tags.values() for name in names})
    rows = [
        {"tag_id": ids[name], "labelled_sae_id": sae, "index": index}
        for index, names in sorted(tags.items())
        for name in dict.fromkeys(names)
    ]
    if rows:
        session.execute(insert(LabelTag), rows)


def _label(row: AnyRow) -> Label:
    return Label(
        feature=FeatureId(model_id=row.model_id, sae_id=row.sae_id, index=row.at),
        text=LabelText(name=row.name, note=row.note, tags=tuple(sorted(row.tags))),
        author=row.author,
        version=row.version,
        changed_at=row.changed_at,
    )
