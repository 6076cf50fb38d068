"""Explanations: read with scores and floors, written and edited by people, found by words."""

from collections.abc import Collection, Sequence

from core.autointerp.text import MAX_EXPLANATION_CHARS, one_line
from core.db.repositories import catalog, explanations, scores
from core.db.repositories.explanations import NewExplanation
from core.db.session import Session
from core.domain.explanation import Explanation, ExplanationMethod, ScoreKind
from core.domain.ids import FeatureId
from core.domain.views_explain import (
    ExplanationCard,
    ExplanationDetails,
    FoundExplanation,
    ScoreDetails,
    ScoreDistribution,
)
from core.errors import Invalid, NotFound

NOBODY = "somebody"
_RANK = {
    ExplanationMethod.HUMAN: 3,
    ExplanationMethod.LLM: 2,
    ExplanationMethod.IMPORTED: 1,
    ExplanationMethod.TOKEN_LOOKUP: 0,
}


def list_explanations(
    session: Session, feature: FeatureId, *, with_superseded: bool = False
) -> tuple[ExplanationCard, ...]:
    """A feature's explanations with their scores, the newest first.

    Raises:
        NotFound: no such feature.
    """
    _check_feature(session, feature)
    return explanations.list_cards(session, feature, with_superseded=with_superseded)


def foremost(cards: Sequence[ExplanationCard]) -> ExplanationCard | None:
    """The explanation that stands for a feature; None without any.

    A person's before a model's, that before an imported one, that before the lookup table's;
    among these what was chosen among samples, then the best simulation, then the newest.
    """

    def rank(card: ExplanationCard) -> tuple[int, bool, float, int]:
        values = (
            score.headline.value
            for score in card.scores
            if score.score.kind is ScoreKind.SIMULATION
        )
        best = max((value for value in values if value is not None), default=-2.0)
        chosen = card.choice is None or card.choice.chosen
        return _RANK[card.explanation.method], chosen, best, card.explanation_id

    return max(cards, key=rank, default=None)


def foremost_of(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    indices: Collection[int],
    words: str | None = None,
) -> dict[int, ExplanationCard]:
    """The explanation that stands for each of these features; those without one are absent.

    With ``words`` it is the foremost of those that hold them.
    """
    found = explanations.of_features(
        session, model_id=model_id, sae_id=sae_id, indices=indices, words=words
    )
    by_feature: dict[int, list[ExplanationCard]] = {}
    for card in found:
        by_feature.setdefault(card.feature.index, []).append(card)
    chosen = ((index, foremost(cards)) for index, cards in by_feature.items())
    return {index: card for index, card in chosen if card is not None}


def history(session: Session, card: ExplanationCard) -> tuple[ExplanationCard, ...]:
    """Every version of an explanation, the present one first; the card itself is among them."""
    cards = explanations.list_cards(session, card.feature, with_superseded=True)
    by_id = {one.explanation_id: one for one in cards}
    before = {one.superseded_by: one for one in cards if one.superseded_by is not None}
    newest = card
    while newest.superseded_by in by_id:
        newest = by_id[newest.superseded_by]
    chain = [newest]
    while chain[-1].explanation_id in before:
        chain.append(before[chain[-1].explanation_id])
    return tuple(chain)


def get_explanation(session: Session, explanation_id: int) -> ExplanationDetails:
    """An explanation with its scores and with what it was made from.

    Raises:
        NotFound: no such explanation.
    """
    return explanations.get_details(session, explanation_id)


def get_score(session: Session, score_id: int) -> ScoreDetails:
    """A score with every simulated or judged example behind it.

    Raises:
        NotFound: no such score.
    """
    card, simulated, judged = scores.get_with_examples(session, score_id)
    return ScoreDetails(
        card=card,
        explanation=explanations.get_card(session, card.explanation_id),
        simulated=simulated,
        judged=judged,
    )


def add_human(
    session: Session, feature: FeatureId, *, text: str, author: str = ""
) -> ExplanationCard:
    """A person's explanation.

    Raises:
        NotFound: no such feature.
        Invalid: the text is empty or too long.
    """
    _check_feature(session, feature)
    made = Explanation(
        text=_checked(text), method=ExplanationMethod.HUMAN, author=one_line(author) or NOBODY
    )
    return explanations.get_card(
        session, explanations.add(session, NewExplanation(feature=feature, explanation=made))
    )


def edit(
    session: Session, explanation_id: int, *, text: str, version: int, author: str = ""
) -> ExplanationCard:
    """A person's new text in place of an explanation; the old one stays with its scores.

    Raises:
        NotFound: no such explanation.
        Conflict: it was edited meanwhile.
        Invalid: the text is empty or too long.
    """
    return explanations.edit(
        session,
        explanation_id,
        text=_checked(text),
        author=one_line(author) or NOBODY,
        version=version,
    )


def delete(session: Session, explanation_id: int) -> None:
    """Removes an explanation with its scores.

    Raises:
        NotFound: no such explanation.
    """
    explanations.delete(session, explanation_id)


def search(
    session: Session,
    words: str,
    *,
    model_id: str | None = None,
    sae_id: str | None = None,
    limit: int = 50,
) -> tuple[FoundExplanation, ...]:
    """Current explanations that hold all these words, best first."""
    return explanations.search(session, words, model_id=model_id, sae_id=sae_id, limit=limit)


def distributions(
    session: Session, *, model_id: str | None = None
) -> tuple[ScoreDistribution, ...]:
    """All scores in groups within which they can be compared."""
    return scores.distributions(session, model_id=model_id)


def _checked(text: str) -> str:
    line = one_line(text, max_chars=len(text) + MAX_EXPLANATION_CHARS)
    if not line:
        raise Invalid("The explanation is empty.", hint="Write one sentence.")
    if len(line) > MAX_EXPLANATION_CHARS:
        raise Invalid(
            f"The explanation has {len(line)} characters.",
            hint=f"Write at most {MAX_EXPLANATION_CHARS}.",
        )
    return line


def _check_feature(session: Session, feature: FeatureId) -> None:
    sae = catalog.get_sae(session, model_id=feature.model_id, sae_id=feature.sae_id)
    if feature.index >= sae.n_features:
        raise NotFound(
            f"{feature.model_id}/{feature.sae_id} has no feature {feature.index}.",
            hint=f"Its features are 0 to {sae.n_features - 1}.",
        )
