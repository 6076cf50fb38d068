"""The best of several samples, found on contexts that nothing is scored on afterwards."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.autointerp.sampling import SpecimenSplit
from core.domain.explain_job import ScorerSetting
from core.domain.explanation import Choice, EvidenceStyle, ScoreKind
from core.domain.ids import FeatureId
from core.domain.views_explain import HEADLINES, NOTHING, ExplanationCard
from core.explaining.connection import Connection
from core.explaining.examiner import Examination, examine
from core.explaining.material import Material


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceItem:
    """Samples of one prompt about one feature, of which the best is to be found."""

    feature: FeatureId
    style: EvidenceStyle | None
    cards: tuple[ExplanationCard, ...]

    @property
    def key(self) -> str:
        """What it is called in its job."""
        return f"choose/{self.feature.index}/{self.style}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How samples of one prompt are compared: by one kind of test, on contexts kept for that.

    Attributes:
        kind: the test.
        connection: who simulates or judges.
        embedder: who embeds texts; None where that is not asked for.
    """

    kind: ScoreKind
    setting: ScorerSetting
    connection: Connection | None
    embedder: Connection | None
    seed: int

    async def examine(
        self, texts: Sequence[str], material: Material, split: SpecimenSplit
    ) -> list[Examination]:
        """Each sample tested on the same contexts, in their order.

        Raises:
            LlmUnsupported: the endpoint lacks an ability.
        """
        held = calibration_split(split)
        tests = (
            examine(
                self.kind,
                text,
                held,
                material=material,
                setting=self.setting,
                connection=self.connection,
                shuffled=None,
                seed=self.seed,
                embedder=self.embedder,
            )
            for text in texts
        )
        return list(await asyncio.gather(*tests))


def choice_items(cards: Sequence[ExplanationCard]) -> tuple[ChoiceItem, ...]:
    """What there is to choose from: groups of at least two samples, in the order of the cards."""
    groups: dict[tuple[FeatureId, EvidenceStyle | None], list[ExplanationCard]] = defaultdict(list)
    for card in cards:
        groups[card.feature, card.explanation.style].append(card)
    return tuple(
        ChoiceItem(feature=feature, style=style, cards=tuple(sorted(group, key=_sample)))
        for (feature, style), group in groups.items()
        if len(group) > 1
    )


def calibration_split(split: SpecimenSplit) -> SpecimenSplit:
    """The split with its calibration contexts in the place of those that are scored on.

    What is scored on later is in none of its groups, so that choosing cannot flatter a score.
    """
    held = (*split.calibrate_top, *split.calibrate_random)
    scored = {
        specimen.context_index
        for group in (split.score_top, split.score_random, split.positives, split.negatives)
        for specimen in group
    }
    return replace(
        split,
        calibrate_top=(),
        calibrate_random=(),
        score_top=split.calibrate_top,
        score_random=split.calibrate_random,
        positives=tuple(specimen for specimen in held if specimen.firing),
        negatives=tuple(specimen for specimen in held if not specimen.firing),
        kept=tuple(s for s in split.kept if s.context_index not in scored),
    )


def rank(examined: Sequence[Examination]) -> tuple[Choice, ...]:
    """One choice a sample, in their order: the greatest value first, of equals the first.

    Samples without a value come last, with the reason; when none has one, the first is chosen.
    """
    measures = [found.score.metrics.get(HEADLINES[found.score.kind], NOTHING) for found in examined]
    order = sorted(
        range(len(examined)),
        key=lambda i: (measures[i].value is None, -(measures[i].value or 0.0), i),
    )
    places = {i: place for place, i in enumerate(order, start=1)}
    return tuple(
        Choice(
            chosen=places[i] == 1,
            rank=places[i],
            of=len(examined),
            kind=found.score.kind,
            metric=HEADLINES[found.score.kind],
            value=measures[i].value,
            missing=measures[i].missing,
            n_contexts=found.score.n,
        )
        for i, found in enumerate(examined)
    )


def _sample(card: ExplanationCard) -> tuple[int, int]:
    return card.sample, card.explanation_id
