"""Runs of explanations: settings checked, costed, previewed, submitted, watched and resumed."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from app.services import catalog
from app.services.problems import FieldProblem, FieldsInvalid, field_problems
from core.db.repositories import answers, endpoints, explanations, jobs, scores
from core.db.session import Session
from core.domain.explain_job import ExplainerSetting, ExplainSpec, RunBudget
from core.domain.explanation import EvidenceStyle, SimulationMode
from core.domain.ids import FeatureId
from core.domain.job import JobCard, JobPage
from core.domain.llm import Message
from core.domain.views_explain import EndpointCard, RunCard, RunPage, Spending
from core.errors import NotFound
from core.explaining.cost import (
    NOTHING,
    Cost,
    assumed_mode,
    choosing_cost,
    explaining_cost,
    scoring_cost,
)
from core.explaining.explainer import explain_question, messages_of
from core.explaining.features import choose_features
from core.explaining.material import Material, SplitSizes, read_material, split_of
from core.jobs import control
from core.llm.prices import estimate as most_of

KIND = "explain"
_SAMPLED = 4
_NO_FAILURES: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What a run will ask and use at most.

    Attributes:
        n_sampled: features whose prompts were counted.
        mode: how it will simulate; None without simulation by an endpoint.
        mode_is_assumed: the endpoint was not tested yet, so the mode is a guess.
        total: requests and tokens at most, all features together; cost None without prices.
        over_budget: whether the budget may stop the run before its end.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The exact messages that an explainer would be sent about a feature.

    Attributes:
        template: name, version and hash of the prompt template.
        prompt_tokens: at most.
        context_indices: contexts that the explainer would see.
    """

    messages: tuple[Message, ...]
    template: str
    prompt_tokens: int
    context_indices: tuple[int, ...]


def check(session: Session, values: Mapping[str, object]) -> ExplainSpec:
    """Settings of a run from JSON-like values, with the harvest named and endpoints looked up.

    Raises:
        NotFound: no such SAE or harvest.
        FieldsInvalid: with every problem found.
    """
    try:
        spec = ExplainSpec.model_validate(dict(values))
    except ValidationError as error:
        raise FieldsInvalid(field_problems(error)) from error
    sae = catalog.get_sae(
        session, model_id=spec.model_id, sae_id=spec.sae_id, harvest_id=spec.harvest_id
    )
    if sae.harvest is None:
        raise NotFound(f"{spec.sae_id} has no finished harvest.", hint="Harvest it first.")
    problems = [
        *_endpoint_problems(session, spec),
        *_feature_problems(spec, sae.n_features),
    ]
    if problems:
        raise FieldsInvalid(tuple(problems))
    return spec.model_copy(update={"harvest_id": sae.harvest.harvest_id})


def estimate(session: Session, spec: ExplainSpec) -> RunEstimate:
    """What a checked run will ask and use at most; formulas in core.explaining.cost."""
    chosen = choose_features(session, spec)
    materials = _sample(session, spec, chosen)
    sizes = SplitSizes.of(spec)
    n_explanations, n_scored = _counts(session, spec, chosen)
    explaining = scoring = NOTHING
    mode, tested = None, True
    if spec.explainer is not None and spec.explainer.endpoint_id is not None:
        card = endpoints.get_card(session, spec.explainer.endpoint_id)
        explaining = explaining_cost(materials, spec.explainer, sizes, card).times(len(chosen))
    if spec.scorer is not None:
        judge = _card_of(session, spec.scorer.endpoint_id)
        embedder = _card_of(session, spec.scorer.embedder_id)
        scoring = scoring_cost(materials, spec.scorer, sizes, judge=judge, embedder=embedder)
        scoring = scoring.times(n_scored)
        if spec.explainer is not None and spec.explainer.choose_best:
            one = choosing_cost(materials, spec.scorer, sizes, judge=judge, embedder=embedder)
            scoring = scoring.plus(one.times(n_explanations))
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
    )


def submit(session: Session, spec: ExplainSpec, *, created_by: str | None = None) -> int:
    """Queues a checked run when the session's transaction commits; the id of its job."""
    return control.submit(session, spec, created_by=created_by)


def resume(session: Session, job_id: int, *, budget: RunBudget | None = None) -> JobPage:
    """Another attempt of a run, with another budget if one is given; nothing is asked twice.

    Raises:
        NotFound: no such run.
        Conflict: it is active or has succeeded.
        FieldsInvalid: the budget is in dollars but a price is not known.
    """
    spec = _spec(session, job_id)
    if budget is not None:
        changed = spec.model_copy(update={"budget": budget})
        problems = _endpoint_problems(session, changed)
        if problems:
            raise FieldsInvalid(tuple(problems))
        jobs.set_spec(session, job_id, changed.model_dump(mode="json"))
    control.resume(session, job_id)
    return jobs.get_job(session, job_id)


def list_runs(
    session: Session, *, before: int | None = None, limit: int = 50
) -> tuple[RunCard, ...]:
    """Runs, the newest first; before is the id of the last one seen."""
    cards = jobs.list_jobs(session, kind=KIND, before=before, limit=limit)
    return tuple(_run(session, card) for card in cards)


def get_run(session: Session, job_id: int) -> RunPage:
    """A run with the distributions of its scores.

    Raises:
        NotFound: no such run.
    """
    _spec(session, job_id)
    return RunPage(
        card=_run(session, jobs.get_card(session, job_id)),
        distributions=scores.distributions(session, job_id=job_id),
    )


def preview(
    session: Session,
    feature: FeatureId,
    *,
    style: EvidenceStyle,
    setting: ExplainerSetting,
    harvest_id: int | None = None,
    seed: int = 0,
) -> Preview:
    """Exactly what an explainer would be sent; nothing is sent.

    Raises:
        NotFound: no such feature or harvest.
        Invalid: the feature fires too seldom to explain it.
    """
    material = _material(session, feature, harvest_id)
    split = split_of(material, SplitSizes(seed=seed, n_explain=setting.n_records))
    question = explain_question(material, split, style, setting=setting, sample=0)
    return Preview(
        messages=messages_of(question),
        template=question.request.template,
        prompt_tokens=most_of(question.request).prompt,
        context_indices=tuple(sorted(specimen.context_index for specimen in split.explain)),
    )


def _run(session: Session, card: JobCard) -> RunCard:
    spec = ExplainSpec.model_validate(jobs.get_spec(session, card.job_id))
    ids = [card.job_id]
    made = scores.count_of_jobs(session, ids).get(card.job_id, (0, 0))
    return RunCard(
        job=card,
        model_id=spec.model_id,
        sae_id=spec.sae_id,
        harvest_id=spec.harvest_id,
        budget=spec.budget,
        n_explanations=made[0],
        n_scores=made[1],
        failures=jobs.item_failures(session, ids).get(card.job_id, _NO_FAILURES),
        item_failures=scores.item_failures(session, card.job_id),
        spending=answers.spending_of(session, ids).get(card.job_id, Spending()),
    )


def _card_of(session: Session, endpoint_id: int | None) -> EndpointCard | None:
    return None if endpoint_id is None else endpoints.get_card(session, endpoint_id)


def _spec(session: Session, job_id: int) -> ExplainSpec:
    if jobs.get_card(session, job_id).kind != KIND:
        raise NotFound(f"Job {job_id} explains nothing.", hint="See the list of runs.")
    return ExplainSpec.model_validate(jobs.get_spec(session, job_id))


def _endpoint_problems(session: Session, spec: ExplainSpec) -> list[FieldProblem]:
    """What is wrong with the endpoints that a run names; each endpoint is told of once."""
    named = {
        "explainer.endpoint_id": spec.explainer.endpoint_id if spec.explainer else None,
        "scorer.endpoint_id": spec.scorer.endpoint_id if spec.scorer else None,
        "scorer.embedder_id": spec.scorer.embedder_id if spec.scorer else None,
    }
    problems: dict[tuple[str, int], FieldProblem] = {}
    for path, endpoint_id in named.items():
        if endpoint_id is None:
            continue
        try:
            card = endpoints.get_card(session, endpoint_id)
        except NotFound as error:
            problem = FieldProblem(path=path, message=error.message, hint=error.hint)
            problems[path, endpoint_id] = problem
            continue
        if spec.budget.max_cost is not None and not card.has_prices:
            problems["budget.max_cost", endpoint_id] = FieldProblem(
                path="budget.max_cost",
                message=f"What {card.name} costs is not known.",
                hint="Enter its prices, or limit tokens or requests instead.",
            )
    return list(problems.values())


def _feature_problems(spec: ExplainSpec, n_features: int) -> list[FieldProblem]:
    if spec.features.by != "list":
        return []
    beyond = [index for index in spec.features.indices if index >= n_features]
    if not beyond:
        return []
    return [
        FieldProblem(
            path="features.indices",
            message=f"{spec.sae_id} has no feature {beyond[0]}.",
            hint=f"Its features are 0 to {n_features - 1}.",
        )
    ]


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
    return [_material(session, f, spec.harvest_id) for f in chosen[::step][:_SAMPLED]]


def _material(session: Session, feature: FeatureId, harvest_id: int | None) -> Material:
    sae = catalog.get_sae(
        session, model_id=feature.model_id, sae_id=feature.sae_id, harvest_id=harvest_id
    )
    revision = sae.harvest.model_revision if sae.harvest else None
    words = catalog.vocabulary(session, model_id=feature.model_id, revision=revision)
    return read_material(session, feature, harvest_id=harvest_id, words=words)


def _is_over(total: Cost, budget: RunBudget) -> bool:
    tokens = total.prompt_tokens + total.completion_tokens
    pairs = (
        (total.cost, budget.max_cost),
        (tokens, budget.max_tokens),
        (total.requests, budget.max_requests),
    )
    return any(used is not None and limit is not None and used > limit for used, limit in pairs)
