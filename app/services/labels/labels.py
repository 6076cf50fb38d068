"""Labels of features: read, written by people under a lock that loses nothing, taken away."""

from collections.abc import Collection, Iterable

from app.services.labels.texts import checked, checked_author
from app.services.problems import FieldProblem, FieldsChanged
from core.db.repositories import catalog, labels
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, Label, LabelChange, LabelText
from core.errors import NotFound


class LabelChanged(FieldsChanged):
    """Somebody was faster.

    Attributes:
        present: the label as it is now.
        wanted: what was to be written; nothing of it is lost.
    """

    def __init__(self, present: Label, wanted: LabelText) -> None:
        self.present, self.wanted = present, wanted
        said = present.text
        now = (("name", said.name), ("note", said.note), ("tags", ", ".join(said.tags)))
        super().__init__(
            f"The label of feature {present.feature.index} was changed meanwhile by "
            f"{present.author}; it is at version {present.version}.",
            hint="Read what it says now (see fields), then write with that version.",
            problems=tuple(
                FieldProblem(path=f"body.{path}", message=f"Now: {text!r}.") for path, text in now
            ),
        )


def get_label(session: Session, feature: FeatureId) -> Label:
    """The label of a feature; an empty one of version 0 where nobody wrote any.

    Raises:
        NotFound: no such feature.
    """
    check_feature(session, feature)
    return labels.get(session, feature)


def of_features(
    session: Session, *, model_id: str, sae_id: str, indices: Collection[int]
) -> dict[int, Label]:
    """Labels that say something of some features of an SAE, by index."""
    found = labels.of_features(session, model_id=model_id, sae_id=sae_id, indices=indices)
    return {index: label for index, label in found.items() if not label.text.empty}


def history(session: Session, feature: FeatureId) -> tuple[LabelChange, ...]:
    """Every state that a feature's label has had, the newest first.

    Raises:
        NotFound: no such feature.
    """
    check_feature(session, feature)
    return labels.history(session, feature)


def save(
    session: Session,
    feature: FeatureId,
    *,
    name: str,
    note: str = "",
    tags: Iterable[str] = (),
    author: str = "",
    version: int | None,
) -> Label:
    """A label's new text in place of the old one, which stays in its history.

    What says the same as before changes nothing.

    Raises:
        NotFound: no such feature.
        FieldsInvalid: a text is too long, or something is no tag.
        LabelChanged: it is not at the version that was read; None writes whatever is there.
    """
    check_feature(session, feature)
    text = checked(name=name, note=note, tags=tags)
    return _put(session, feature, text, author=author, version=version, kind=ChangeKind.EDIT)


def delete(session: Session, feature: FeatureId, *, author: str = "", version: int | None) -> Label:
    """An empty label in place of the present one, which stays in the history.

    Raises:
        NotFound: no such feature, or it has no label.
        LabelChanged: it is not at the version that was read.
    """
    check_feature(session, feature)
    if labels.get(session, feature).text.empty:
        raise NotFound(f"Feature {feature} has no label.", hint="Nothing had to be deleted.")
    return _put(
        session, feature, LabelText(), author=author, version=version, kind=ChangeKind.DELETE
    )


def check_feature(session: Session, feature: FeatureId) -> None:
    """Refuse a feature that its SAE does not have.

    Raises:
        NotFound: no such model, SAE or index.
    """
    sae = catalog.get_sae(session, model_id=feature.model_id, sae_id=feature.sae_id)
    if not 0 <= feature.index < sae.n_features:
        raise NotFound(
            f"{feature.model_id}/{feature.sae_id} has no feature {feature.index}.",
            hint=f"Its features are 0 to {sae.n_features - 1}.",
        )


def _put(
    session: Session,
    feature: FeatureId,
    text: LabelText,
    *,
    author: str,
    version: int | None,
    kind: ChangeKind,
) -> Label:
    labels.hold(session, model_id=feature.model_id, sae_id=feature.sae_id)
    present = labels.get(session, feature)
    if version is not None and present.version != version:
        raise LabelChanged(present, text)
    if present.text == text:
        return present
    return labels.put(
        session, feature, text, author=checked_author(author), version=version, kind=kind
    )
