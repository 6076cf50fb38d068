"""Explanations: read with scores and floors, written and edited by people, found by words."""

from core.autointerp.text import MAX_EXPLANATION_CHARS, one_line
from core.db.repositories import catalog, explanations, scores
from core.db.session import Session
from core.domain.explanation import Explanation, ExplanationMethod
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


def list_explanations(
    session: Session, feature: FeatureId, *, with_superseded: bool = False
) -> tuple[ExplanationCard, ...]:
    """A feature's explanations with their scores, the newest first.

    Raises:
        NotFound: no such feature.
    """
    _check_feature(session, feature)
    return explanations.list_cards(session, feature, with_superseded=with_superseded)


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
        session, explanations.add(session, feature=feature, explanation=made)
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
