"""What a run of explanations will ask and use at most, before it asks anything."""

from dataclasses import dataclass

from app.services.features import catalog
from core.db.repositories import answers, endpoints, explanations
from core.db.session import Session
from core.domain.explain_job import ExplainSpec, RunBudget
from core.domain.explanation import SimulationMode
from core.domain.ids import FeatureId
from core.domain.views_explain import EndpointCard
from core.explaining.context_texts import ContextTexts
from core.explaining.cost import (
    NOTHING,
    Cost,
    assumed_mode,
    choosing_cost,
    explaining_cost,
    scoring_cost,
)
from core.explaining.features import choose_features
from core.explaining.material import Material, SplitSizes, read_material

_SAMPLED = 4
ASSUMED_SECONDS = 2.0  # an answer of an endpoint that has answered nothing yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Overflow:
    """A request that may not fit into an endpoint's context; what does not fit fails.

    Attributes:
        tokens: of the largest request with its answer, at most.
        limit: tokens that the context holds.
    """

    endpoint: str
    tokens: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What a run will ask and use at most.

    Attributes:
        n_sampled: features whose prompts were counted.
        mode: how it will simulate; None without simulation by an endpoint.
        mode_is_assumed: the endpoint was not tested yet, so the mode is a guess.
        total: requests and tokens at most, all features together; cost None without prices.
        over_budget: whether the budget may stop the run before its end.
        seconds: time the requests take when nothing fails; 0 without requests.
        time_is_measured: whether that rests on earlier answers of the endpoints, not on a guess.
        overflow: the first request that may not fit; None when all do, or no limit is known.
    """

    n_features: int
    n_explanations: int
    n_scores: int
    n_sampled: int
    mode: SimulationMode | None
    mode_is_assumed: bool
    explaining: Cost
    scoring: Cost
    total: Cost
    over_budget: bool
    seconds: float
    time_is_measured: bool
    overflow: Overflow | None


def estimate(session: Session, spec: ExplainSpec) -> RunEstimate:
    """What a checked run will ask and use at most; formulas in core.explaining.cost."""
    chosen = choose_features(session, spec)
    materials = _sample(session, spec, chosen)
    sizes = SplitSizes.of(spec)
    n_explanations, n_scored = _counts(session, spec, chosen)
    explaining = scoring = NOTHING
    mode, tested = None, True
    times: list[tuple[float, bool]] = []
    overflows: list[Overflow | None] = []
    if spec.explainer is not None and spec.explainer.endpoint_id is not None:
        card = endpoints.get_card(session, spec.explainer.endpoint_id)
        explaining = explaining_cost(materials, spec.explainer, sizes, card).times(len(chosen))
        times.append(_seconds(session, explaining, card))
        overflows.append(_overflow(explaining, card))
    if spec.scorer is not None:
        judge = _card_of(session, spec.scorer.endpoint_id)
        embedder = _card_of(session, spec.scorer.embedder_id)
        scoring = scoring_cost(materials, spec.scorer, sizes, judge=judge, embedder=embedder)
        scoring = scoring.times(n_scored)
        if spec.explainer is not None and spec.explainer.choose_best:
            one = choosing_cost(materials, spec.scorer, sizes, judge=judge, embedder=embedder)
            scoring = scoring.plus(one.times(n_explanations))
        asked = judge or embedder
        times += [_seconds(session, scoring, asked)] if asked else []
        overflows += [_overflow(scoring, judge)] if judge else []
        if judge is not None and "simulation" in spec.scorer.kinds:
            mode, tested = assumed_mode(spec.scorer, judge), judge.abilities is not None
    total = explaining.plus(scoring)
    return RunEstimate(
        n_features=len(chosen),
        n_explanations=n_explanations,
        n_scores=n_scored * (len(spec.scorer.kinds) if spec.scorer else 0),
        n_sampled=len(materials),
        mode=mode,
        mode_is_assumed=not tested,
        explaining=explaining,
        scoring=scoring,
        total=total,
        over_budget=_is_over(total, spec.budget),
        seconds=sum(seconds for seconds, _ in times),
        time_is_measured=all(measured for _, measured in times),
        overflow=next(filter(None, overflows), None),
    )


def material_of(session: Session, feature: FeatureId, harvest_id: int | None) -> Material:
    """What is known of a feature, in the words of its harvest's model.

    Raises:
        NotFound: no such feature or harvest.
    """
    sae = catalog.get_sae(
        session, model_id=feature.model_id, sae_id=feature.sae_id, harvest_id=harvest_id
    )
    revision = sae.harvest.model_revision if sae.harvest else None
    words = catalog.vocabulary(session, model_id=feature.model_id, revision=revision)
    return read_material(session, feature, harvest_id=harvest_id, texts=ContextTexts(words))


def _seconds(session: Session, cost: Cost, card: EndpointCard) -> tuple[float, bool]:
    """How long requests take with the endpoint's gate full, and whether that was measured."""
    mean = answers.mean_seconds(session, card.endpoint_id)
    each = ASSUMED_SECONDS if mean is None else mean
    return cost.requests * each / card.concurrency, mean is not None or not cost.requests


def _overflow(cost: Cost, card: EndpointCard) -> Overflow | None:
    """The largest request where it may need more than the endpoint's context, as it was tested."""
    limit = card.abilities.context_limit if card.abilities else None
    if limit is None or cost.largest <= limit:
        return None
    return Overflow(endpoint=card.name, tokens=cost.largest, limit=limit)


def _card_of(session: Session, endpoint_id: int | None) -> EndpointCard | None:
    return None if endpoint_id is None else endpoints.get_card(session, endpoint_id)


def _counts(session: Session, spec: ExplainSpec, chosen: tuple[FeatureId, ...]) -> tuple[int, int]:
    """Explanations that will be made, and explanations that will be scored."""
    setting = spec.explainer
    n_each = 0
    if setting is not None:
        n_each = 1 if setting.endpoint_id is None else len(setting.styles) * setting.n_samples
    made = len(chosen) * n_each
    if spec.scorer is None:
        return made, 0
    best = setting is not None and setting.choose_best and setting.endpoint_id is not None
    scored = made // setting.n_samples if setting is not None and best else made
    existing = explanations.current(
        session,
        model_id=spec.model_id,
        sae_id=spec.sae_id,
        methods=spec.scorer.existing,
        indices=[feature.index for feature in chosen],
    )
    return made, scored + len(existing)


def _sample(session: Session, spec: ExplainSpec, chosen: tuple[FeatureId, ...]) -> list[Material]:
    step = max(1, len(chosen) // _SAMPLED)
    return [material_of(session, f, spec.harvest_id) for f in chosen[::step][:_SAMPLED]]


def _is_over(total: Cost, budget: RunBudget) -> bool:
    tokens = total.prompt_tokens + total.completion_tokens
    pairs = (
        (total.cost, budget.max_cost),
        (tokens, budget.max_tokens),
        (total.requests, budget.max_requests),
    )
    return any(used is not None and limit is not None and used > limit for used, limit in pairs)
