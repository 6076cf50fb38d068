"""Models, SAEs, harvests and vocabularies: what there is to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.db.repositories import catalog, explained, harvests
from core.db.repositories.explained import Known
from core.db.session import Session
from core.domain.harvest import HarvestInfo
from core.domain.views import FeaturePage, ModelCard, SaeCard, SaidCounts, Vocabulary
from core.errors import NotFound
from core.recent import Recent

_CACHED_VOCABULARIES = 8


def list_models(session: Session) -> tuple[ModelCard, ...]:
    """Every model with its SAEs and harvests."""
    return catalog.list_models(session)


def count_said(session: Session) -> Mapping[tuple[str, str], SaidCounts]:
    """How many features of each SAE are explained and named, by the ids of model and SAE."""
    return explained.count_said(session)


def get_model(session: Session, model_id: str) -> ModelCard:
    """One model.

    Raises:
        NotFound: no such model.
    """
    return catalog.get_model(session, model_id)


def get_sae(
    session: Session, *, model_id: str, sae_id: str, harvest_id: int | None = None
) -> SaeCard:
    """One SAE as seen in a harvest; without harvest_id in the newest finished one.

    Raises:
        NotFound: no such model, SAE or harvest.
    """
    return catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)


def list_harvests(session: Session, *, model_id: str | None = None) -> tuple[HarvestInfo, ...]:
    """Finished harvests, the newest first."""
    return harvests.list_harvests(session, model_id=model_id)


def get_harvest(session: Session, harvest_id: int) -> HarvestInfo:
    """One finished harvest.

    Raises:
        NotFound: no such harvest.
    """
    for harvest in harvests.list_harvests(session):
        if harvest.harvest_id == harvest_id:
            return harvest
    raise NotFound(f"No harvest {harvest_id}.", hint="It may have been deleted; list the harvests.")


def delete_harvest(session: Session, harvest_id: int) -> None:
    """Deletes a harvest with all its features; its models and SAEs stay.

    Raises:
        NotFound: no such harvest.
    """
    get_harvest(session, harvest_id)
    harvests.delete(session, harvest_id)


def known_of(
    session: Session, *, model_id: str, sae_id: str, indices: Sequence[int]
) -> dict[int, Known]:
    """What is known of some features of an SAE; of one that is not here, explanations at most."""
    try:
        revision = catalog.get_sae(session, model_id=model_id, sae_id=sae_id).revision
    except NotFound:
        revision = ""
    return explained.known_of(
        session, model_id=model_id, sae_id=sae_id, revision=revision, indices=indices
    )


# A vocabulary of a revision never changes.
_VOCABULARIES: Recent[tuple[str, str], Vocabulary] = Recent(_CACHED_VOCABULARIES)


def vocabulary(session: Session, *, model_id: str, revision: str | None = None) -> Vocabulary:
    """The exact bytes of a model's tokens; of its newest revision unless one is named.

    Raises:
        NotFound: no such model or revision.
    """
    if revision is None:
        revision = catalog.get_model(session, model_id).revision
    named = revision
    return _VOCABULARIES.get(
        (model_id, named),
        lambda: catalog.get_vocabulary(session, model_id=model_id, revision=named),
    )


def known_vocabulary(session: Session, *, model_id: str) -> Vocabulary | None:
    """The same for a model that may never have been harvested; None then."""
    try:
        return vocabulary(session, model_id=model_id)
    except NotFound:
        return None


def page_vocabulary(session: Session, page: FeaturePage) -> Vocabulary:
    """The vocabulary of the model revision that a feature's page is of."""
    return vocabulary(session, model_id=page.model_id, revision=page.harvest.model_revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyToken:
    """One token of a vocabulary.

    Attributes:
        raw: exact bytes.
        text: the bytes as UTF-8; undecodable bytes become U+FFFD.
    """

    token_id: int
    raw: bytes
    text: str
    special: bool


def token(words: Vocabulary, token_id: int) -> VocabularyToken:
    """A token by its id; an id outside the vocabulary (padding of the embedding) is empty."""
    raw = words.tokens[token_id] if 0 <= token_id < len(words.tokens) else b""
    return VocabularyToken(
        token_id=token_id,
        raw=raw,
        text=token_text(words, token_id),
        special=token_id in words.special_ids,
    )


def token_text(words: Vocabulary, token_id: int) -> str:
    """A token's text alone, as VocabularyToken has it."""
    raw = words.tokens[token_id] if 0 <= token_id < len(words.tokens) else b""
    return raw.decode("utf-8", errors="replace")


def find_tokens(
    words: Vocabulary, *, containing: str = "", after: int = -1, limit: int = 50
) -> tuple[VocabularyToken, ...]:
    """Tokens whose text contains the given one, ignoring case, in the order of their ids.

    Args:
        words: the vocabulary.
        containing: text to look for; empty finds every token.
        after: only ids above this one.
        limit: at most so many.
    """
    wanted = containing.casefold()
    found: list[VocabularyToken] = []
    for token_id in range(max(after + 1, 0), len(words.tokens)):
        candidate = token(words, token_id)
        if wanted in candidate.text.casefold():
            found.append(candidate)
            if len(found) == limit:
                break
    return tuple(found)
