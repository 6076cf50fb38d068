"""Which explanations a run tests, and in which ways."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.db.repositories import explanations
from core.db.session import Session
from core.domain.explain_job import ExplainSpec, ScorerSetting
from core.domain.explanation import ScoreKind, SimulationMode
from core.domain.ids import FeatureId
from core.domain.views_explain import ExplanationCard
from core.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreItem:
    """One test of one explanation that is to be made.

    Attributes:
        seen: numbers of the contexts that the explanation was made from.
    """

    card: ExplanationCard
    kind: ScoreKind
    mode: str
    seen: tuple[int, ...]

    @property
    def key(self) -> str:
        """What it is called in its job."""
        return f"score/{self.card.explanation_id}/{self.kind.value}/{self.mode}"


def score_items(
    session: Session,
    spec: ExplainSpec,
    setting: ScorerSetting,
    features: Sequence[FeatureId],
    job_id: int,
) -> tuple[ScoreItem, ...]:
    """Every test of the explanations that the job made and of those that it was to score too.

    Samples that another one of their prompt was preferred to are left out.
    """
    made = explanations.of_job(session, job_id)
    others = explanations.current(
        session,
        model_id=spec.model_id,
        sae_id=spec.sae_id,
        methods=setting.existing,
        indices=[feature.index for feature in features],
    )
    wanted = (card for card in (*made, *others) if card.choice is None or card.choice.chosen)
    cards = {card.explanation_id: card for card in wanted}
    seen = explanations.seen_contexts(session, list(cards))
    return tuple(
        ScoreItem(card=card, kind=kind, mode=_mode(setting, kind), seen=seen[card.explanation_id])
        for card in cards.values()
        for kind in setting.score_kinds
    )


def check_unseen(card: ExplanationCard, harvest_id: int) -> None:
    """Refuse to score on another harvest than an explanation was made from.

    Raises:
        Invalid: a context of this harvest may be one that the explainer saw in the other.
    """
    if card.harvest_id is not None and card.harvest_id != harvest_id:
        raise Invalid(
            f"Explanation {card.explanation_id} was made from harvest {card.harvest_id}.",
            hint="Score it on that harvest, so that it is not tested on what it was made from.",
        )


def _mode(setting: ScorerSetting, kind: ScoreKind) -> str:
    if kind is not ScoreKind.SIMULATION:
        return "judged"
    if setting.endpoint_id is None:
        return SimulationMode.TOKEN_LOOKUP.value
    return setting.mode.value if setting.mode else "best"
