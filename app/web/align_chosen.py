"""Features that a form holds or frees, with what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.services.align import finder as align_finder
from app.services.align.finder import Described
from app.services.align.offers import OfferedSae, Offers
from app.services.features import catalog
from app.services.labels import tags
from app.web import align_features, tokens
from app.web.align_form import AlignForm
from core.db.session import Session
from core.domain.alignment import TagSource
from core.domain.label import TagCard
from core.domain.views import Vocabulary
from core.errors import NotFound

SHOWN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFeature:
    """One feature of a list, with its page and what it is about."""

    index: int
    url: str
    label: str | None
    explanation: str | None
    peak_label: tokens.Html | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenList:
    """The first features of one list of one SAE.

    Attributes:
        name: held or free.
        n_more: how many are not shown.
        tags: tags that some of them came from, each with how many.
    """

    name: str
    features: tuple[ChosenFeature, ...]
    n_more: int
    tags: tuple[tuple[str, int], ...] = ()


def chosen_lists(
    session: Session, form: AlignForm, offers: Offers
) -> dict[int, tuple[ChosenList, ...]]:
    """The lists of every SAE of the form that is known, by its row; empty ones are left out."""
    found: dict[int, tuple[ChosenList, ...]] = {}
    for row in range(form.n_saes):
        at = f"constraint.{row}"
        sae = offers.sae(form.text(f"{at}.pick"))
        if sae is not None and form.text(f"{at}.treat") == align_features.SOME:
            texts = {name: form.text(f"{at}.{name}") for name in ("held", "free")}
            came_from = align_features.sources(form.typed, row)
            lists = (
                replace(_list(session, sae, name, text), tags=_tags(came_from, name))
                for name, text in texts.items()
            )
            found[row] = tuple(one for one in lists if one.features)
    return found


def tag_offers(session: Session, form: AlignForm, offers: Offers) -> dict[int, tuple[TagCard, ...]]:
    """Tags of the features of every known SAE of the form, by its row."""
    found: dict[int, tuple[TagCard, ...]] = {}
    for row in range(form.n_saes):
        sae = offers.sae(form.text(f"constraint.{row}.pick"))
        if sae is not None:
            found[row] = tags.list_tags(session, model_id=sae.card.model_id, sae_id=sae.sae_id)
    return found


def _tags(came_from: Sequence[TagSource], name: str) -> tuple[tuple[str, int], ...]:
    """Tags of one list, each with how many of its features."""
    return tuple((one.tag, len(one.features)) for one in came_from if one.treatment == name)


def _list(session: Session, sae: OfferedSae, name: str, text: str) -> ChosenList:
    indices = align_features.indices_in(text)
    known = align_finder.described(session, sae, indices[:SHOWN])
    words = _vocabulary(session, sae) if any(one.peak_token is not None for one in known) else None
    return ChosenList(
        name=name,
        features=tuple(_feature(sae, one, words) for one in known),
        n_more=max(0, len(indices) - SHOWN),
    )


def _feature(sae: OfferedSae, one: Described, words: Vocabulary | None) -> ChosenFeature:
    silent = words is None or one.peak_token is None or one.peak_token < 0
    return ChosenFeature(
        index=one.index,
        url=f"/{sae.key}/{one.index}",
        label=one.label,
        explanation=one.explanation,
        peak_label=None if silent else _label(words, one.peak_token),
    )


def _label(words: Vocabulary | None, token_id: int | None) -> tokens.Html | None:
    if words is None or token_id is None:
        return None
    return tokens.token_label(words, token_id)


def _vocabulary(session: Session, sae: OfferedSae) -> Vocabulary | None:
    try:
        return catalog.vocabulary(session, model_id=sae.card.model_id)
    except NotFound:
        return None
