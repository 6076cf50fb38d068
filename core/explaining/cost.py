"""What a run will ask, before it asks anything: the very prompts of a few features, counted.

Tokens are an upper bound: the most that a tokenizer makes of a prompt, every answer at its limit.
Requests of one feature are the mean over a few of the run's features, spread evenly over its list.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.autointerp.embedding import embedding_plan
from core.autointerp.judging import (
    JudgeSetting,
    detection_contexts,
    fuzzing_contexts,
    judging_plan,
)
from core.autointerp.sampling import SpecimenSplit
from core.autointerp.simulate import SimulatorSetting, simulation_plan
from core.autointerp.wording import Language
from core.domain.explain_job import ExplainerSetting, ScorerSetting
from core.domain.explanation import Number, ScoreKind, SimulationMode
from core.domain.llm import ModelRequest, Usage
from core.domain.views_explain import EndpointCard
from core.errors import Invalid
from core.explaining.choosing import calibration_split
from core.explaining.connection import prices_of
from core.explaining.explainer import explain_items, explain_question
from core.explaining.material import Material, SplitSizes, draw_of, split_of
from core.llm.prices import estimate

_TYPICAL = "words about a place, person or thing that the text has named before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Requests and the most that they use.

    Attributes:
        cost: US dollars at most; None when a price is not known.
        largest: tokens of the largest single request with its answer, at most.
    """

    requests: float
    prompt_tokens: float
    completion_tokens: float
    cost: float | None
    largest: int = 0

    def times(self, n: Number) -> "Cost":
        """So many times this."""
        return Cost(
            requests=self.requests * n,
            prompt_tokens=self.prompt_tokens * n,
            completion_tokens=self.completion_tokens * n,
            cost=None if self.cost is None else self.cost * n,
            largest=self.largest,
        )

    def plus(self, other: "Cost") -> "Cost":
        """Both together."""
        known = self.cost is not None and other.cost is not None
        return Cost(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=(self.cost or 0.0) + (other.cost or 0.0) if known else None,
            largest=max(self.largest, other.largest),
        )


NOTHING = Cost(requests=0.0, prompt_tokens=0.0, completion_tokens=0.0, cost=0.0)


def explaining_cost(
    materials: Sequence[Material], setting: ExplainerSetting, sizes: SplitSizes, card: EndpointCard
) -> Cost:
    """What explaining one feature costs, over all styles and samples."""
    totals = []
    for material, split in _splits(materials, sizes):
        items = explain_items([material.feature], setting)
        questions = [
            explain_question(material, split, item.style, setting=setting, sample=item.sample)
            for item in items
            if item.style is not None
        ]
        totals.append(_cost((question.request for question in questions), card))
    return _mean(totals)


def scoring_cost(
    materials: Sequence[Material],
    setting: ScorerSetting,
    sizes: SplitSizes,
    *,
    judge: EndpointCard | None,
    embedder: EndpointCard | None,
) -> Cost:
    """What scoring one explanation costs, over all kinds, the shuffled floor included.

    Args:
        materials: a few features.
        setting: how to score.
        sizes: of their splits.
        judge: who simulates and judges; None costs nothing.
        embedder: who embeds; None where nothing is embedded.
    """
    totals = []
    for material, split in _splits(materials, sizes):
        total = NOTHING
        if judge is not None:
            total = _cost(_scoring_requests(material, split, setting, sizes, judge), judge)
        if embedder is not None:
            requests = _embedding_requests(material, split, setting, sizes)
            total = total.plus(_cost(requests, embedder))
        totals.append(total)
    return _mean(totals)


def choosing_cost(
    materials: Sequence[Material],
    setting: ScorerSetting,
    sizes: SplitSizes,
    *,
    judge: EndpointCard | None,
    embedder: EndpointCard | None,
) -> Cost:
    """What trying one sample on the calibration contexts costs, by the kind that chooses."""
    first = setting.chooser
    if first is None:
        return NOTHING
    totals = []
    for material, split in _splits(materials, sizes):
        held = calibration_split(split)
        if first is ScoreKind.EMBEDDING:
            requests, card = _embedding_requests(material, held, setting, sizes), embedder
        else:
            one = setting.model_copy(
                update={"kinds": (first.value,), "shuffled_floor": False, "embedder_id": None}
            )
            requests = [] if judge is None else _scoring_requests(material, held, one, sizes, judge)
            card = judge
        totals.append(NOTHING if card is None else _cost(requests, card))
    return _mean(totals)


def assumed_mode(setting: ScorerSetting, card: EndpointCard) -> SimulationMode:
    """How the endpoint will simulate: as told, else its best, else by schema while untested."""
    if setting.mode is not None:
        return setting.mode
    modes = card.abilities.modes if card.abilities else ()
    return modes[0] if modes else SimulationMode.SCHEMA


def _splits(
    materials: Sequence[Material], sizes: SplitSizes
) -> Iterable[tuple[Material, SpecimenSplit]]:
    for material in materials:
        try:
            yield material, split_of(material, sizes)
        except Invalid:
            continue  # too few contexts: the run asks nothing about it


def _scoring_requests(
    material: Material,
    split: SpecimenSplit,
    setting: ScorerSetting,
    sizes: SplitSizes,
    card: EndpointCard,
) -> list[ModelRequest]:
    times = 2 if setting.shuffled_floor else 1
    language = Language(setting.language)
    asked: list[ModelRequest] = []
    for kind in setting.score_kinds:
        if kind is ScoreKind.EMBEDDING:
            continue
        if kind is ScoreKind.SIMULATION:
            how = SimulatorSetting(mode=assumed_mode(setting, card), language=language)
            scored = (*split.score_top, *split.score_random) * times
            for specimen in (*scored, *split.calibrate_top, *split.calibrate_random):
                plan = simulation_plan(how, _TYPICAL, specimen.record.tokens)
                asked += [question.request for question in plan.questions]
            continue
        rng = draw_of(sizes.seed, material.feature, kind.value)
        make = detection_contexts if kind is ScoreKind.DETECTION else fuzzing_contexts
        judging = judging_plan(
            kind, JudgeSetting(language=language), _TYPICAL, make(split, rng=rng)
        )
        asked += [question.request for question in judging.questions] * times
    return asked


def _embedding_requests(
    material: Material, split: SpecimenSplit, setting: ScorerSetting, sizes: SplitSizes
) -> list[ModelRequest]:
    """Contexts are embedded once, also for the shuffled floor: equal requests are sent once."""
    rng = draw_of(sizes.seed, material.feature, ScoreKind.EMBEDDING.value)
    plan = embedding_plan(_TYPICAL, detection_contexts(split, rng=rng))
    asked = [question.request for question in plan.questions]
    return [*asked, asked[0]] if setting.shuffled_floor else asked


def _cost(requests: Iterable[ModelRequest], card: EndpointCard) -> Cost:
    prices = prices_of(card)
    total = NOTHING
    for request in requests:
        most: Usage = estimate(request, extra_tokens=card.extra_tokens)
        total = total.plus(
            Cost(
                requests=1.0,
                prompt_tokens=float(most.prompt),
                completion_tokens=float(most.completion),
                cost=prices.cost(card.model, most),
                largest=most.prompt + most.completion,
            )
        )
    return total


def _mean(costs: Sequence[Cost]) -> Cost:
    total = NOTHING
    for cost in costs:
        total = total.plus(cost)
    return total.times(1 / len(costs)) if costs else NOTHING
