"""Tags, which are lists of features too: counted, given to many features, renamed and merged."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from app.services.features.catalog import known_of
from app.services.labels.texts import checked_author, checked_tag, checked_tags
from core.db.repositories import catalog, features, labels, tags
from core.db.repositories.explained import Known
from core.db.session import Session
from core.domain.ids import FeatureId
from core.domain.label import Label, LabelQuery, TagCard
from core.domain.views import FeatureQuery
from core.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagging:
    """What tagging many features did: how many were chosen, and how many that changed."""

    n_chosen: int
    n_changed: int


def list_tags(
    session: Session, *, model_id: str | None = None, sae_id: str | None = None
) -> tuple[TagCard, ...]:
    """Tags that features bear, by name; of one model or SAE where asked for."""
    return tags.list_tags(session, model_id=model_id, sae_id=sae_id)


def get_tag(session: Session, name: str) -> TagCard:
    """One tag with its features counted.

    Raises:
        NotFound: no feature bears it.
    """
    return tags.get_tag(session, name)


def tagged(session: Session, query: LabelQuery) -> tuple[Label, ...]:
    """Labels of features that bear the query's tag, by model, SAE and index.

    Raises:
        NotFound: no feature bears it.
    """
    if query.tag is not None:
        tags.get_tag(session, query.tag)
    return labels.list_labels(session, query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A feature that bears a tag: its label, and what else is known of it."""

    label: Label
    known: Known


def first_bearers(session: Session, name: str, *, limit: int) -> tuple[Bearer, ...]:
    """The first features that bear a tag, by model, SAE and index.

    Raises:
        NotFound: no feature bears it.
    """
    found = tagged(session, LabelQuery(tag=name, limit=limit))
    known: dict[FeatureId, Known] = {}
    of_one = attrgetter("feature.model_id", "feature.sae_id")
    for (model_id, sae_id), group in groupby(found, key=of_one):
        indices = [label.feature.index for label in group]
        of_sae = known_of(session, model_id=model_id, sae_id=sae_id, indices=indices)
        known |= {
            FeatureId(model_id=model_id, sae_id=sae_id, index=index): one
            for index, one in of_sae.items()
        }
    return tuple(Bearer(label=label, known=known[label.feature]) for label in found)


def bearers(session: Session, name: str, *, model_id: str, sae_id: str) -> tuple[int, ...]:
    """Every feature of an SAE that bears a tag, ascending.

    Raises:
        Invalid: no tag is named, or no feature bears it.
    """
    if not name:
        raise Invalid("Choose a tag.", hint="Tags are given on pages of features and in lists.")
    found = tags.tagged(session, name, model_id=model_id, sae_id=sae_id)
    if not found:
        raise Invalid(
            f"No feature of {sae_id} bears the tag {name!r}.",
            hint="See the list of tags for which there are.",
        )
    return found


def matching(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None,
    query: FeatureQuery,
) -> tuple[int, ...]:
    """Every feature that a list's filters leave, by index.

    Raises:
        NotFound: no such SAE or harvest.
    """
    return features.matching_indices(
        session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, query=query
    )


def tag_features(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    indices: Iterable[int],
    add: Collection[str] = (),
    remove: Collection[str] = (),
    author: str = "",
) -> Tagging:
    """Gives and takes tags of many features of an SAE.

    Raises:
        NotFound: no such SAE, or it has no such feature.
        Invalid: no tag or no feature is named, or a tag is to be given and taken.
    """
    chosen = sorted(set(indices))
    giving, taking = checked_tags(add), checked_tags(remove)
    if not (giving or taking):
        raise Invalid("Name a tag.", hint="Write one or more, with commas between them.")
    if not chosen:
        raise Invalid("No feature is chosen.", hint="Tick some features of the list first.")
    both = sorted(set(giving) & set(taking))
    if both:
        raise Invalid(f"The tag {both[0]!r} is to be given and taken.", hint="Choose one of both.")
    sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id)
    beyond = next((index for index in chosen if not 0 <= index < sae.n_features), None)
    if beyond is not None:
        raise NotFound(
            f"{model_id}/{sae_id} has no feature {beyond}.",
            hint=f"Its features are 0 to {sae.n_features - 1}.",
        )
    changed = tags.change(
        session,
        model_id=model_id,
        sae_id=sae_id,
        indices=chosen,
        add=giving,
        remove=taking,
        author=checked_author(author),
    )
    return Tagging(n_chosen=len(chosen), n_changed=changed)


def of_one_sae(features_named: Iterable[str]) -> dict[tuple[str, str], list[int]]:
    """Features by model and SAE from their ids.

    Raises:
        Invalid: one is no feature id.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for text in features_named:
        feature = FeatureId.parse(text)
        found.setdefault((feature.model_id, feature.sae_id), []).append(feature.index)
    return found


def rename(session: Session, name: str, new: str, *, author: str = "") -> TagCard:
    """A tag under another name.

    Raises:
        NotFound: no feature bears it.
        Conflict: there is a tag of the new name; merge them.
        Invalid: the new name is none.
    """
    wanted = checked_tag(new)
    if wanted != name:
        tags.rename(session, name, wanted, author=checked_author(author))
    return tags.get_tag(session, wanted)


def merge(session: Session, name: str, into: str, *, author: str = "") -> TagCard:
    """The tag that has taken up another one's features.

    Raises:
        NotFound: no feature bears one of them.
        Invalid: they are the same tag.
    """
    wanted = checked_tag(into)
    if wanted == name:
        raise Invalid("A tag cannot be merged with itself.", hint="Choose another tag.")
    tags.merge(session, name, wanted, author=checked_author(author))
    return tags.get_tag(session, wanted)


def delete(session: Session, name: str, *, author: str = "") -> int:
    """Takes a tag from every feature; how many bore it. Names and notes stay.

    Raises:
        NotFound: no feature bears it.
    """
    return tags.remove(session, name, author=checked_author(author))
