"""Runs of explanations: settings checked, costed, previewed, submitted, watched and resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from app.services.explain.estimate import material_of
from app.services.features import catalog
from app.services.problems import FieldProblem, FieldsInvalid, field_problems
from core.db.repositories import answers, endpoints, explanations, jobs, scores
from core.db.session import Session
from core.domain.explain_job import ExplainerSetting, ExplainSpec, RunBudget
from core.domain.explanation import EvidenceStyle
from core.domain.ids import FeatureId
from core.domain.job import JobCard, JobPage, JobSlice
from core.domain.llm import Message
from core.domain.place import NEWEST, NewestPlace
from core.domain.views_explain import ExplanationSlice, RunCard, RunPage, Spending
from core.errors import NotFound
from core.explaining.explainer import explain_question, messages_of
from core.explaining.material import SplitSizes, split_of
from core.jobs import control
from core.llm.prices import estimate as most_of

KIND = "explain"
_NO_FAILURES: dict[str, int] = {}


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


def submit(session: Session, spec: ExplainSpec, *, created_by: str | None = None) -> int:
    """Queues a checked run when the session's transaction commits; the id of its job."""
    return control.submit(session, spec, created_by=created_by)


def written(session: Session, job_id: int, *, place: NewestPlace, limit: int) -> ExplanationSlice:
    """A page of the explanations that a run wrote, the newest first."""
    return explanations.page_of_job(session, job_id, place=place, limit=limit)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSlice:
    """Runs of one page, the newest first; ``place`` holds the same jobs and its neighbours."""

    runs: tuple[RunCard, ...]
    place: JobSlice


def list_runs(session: Session, *, place: NewestPlace = NEWEST, limit: int = 50) -> RunSlice:
    """One page of runs, the newest first."""
    found = jobs.list_page(session, place=place, kinds=(KIND,), limit=limit)
    return RunSlice(runs=_runs(session, found.jobs), place=found)


def get_run(session: Session, job_id: int) -> RunPage:
    """A run with the distributions of its scores.

    Raises:
        NotFound: no such run.
    """
    _spec(session, job_id)
    (card,) = _runs(session, (jobs.get_card(session, job_id),))
    return RunPage(
        card=card,
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
    material = material_of(session, feature, harvest_id)
    split = split_of(material, SplitSizes(seed=seed, n_explain=setting.n_records))
    question = explain_question(material, split, style, setting=setting, sample=0)
    return Preview(
        messages=messages_of(question),
        template=question.request.template,
        prompt_tokens=most_of(question.request).prompt,
        context_indices=tuple(sorted(specimen.context_index for specimen in split.explain)),
    )


def _runs(session: Session, cards: Sequence[JobCard]) -> tuple[RunCard, ...]:
    """Runs of these jobs, in their order; every number is read once for all of them."""
    ids = [card.job_id for card in cards]
    made = scores.count_of_jobs(session, ids)
    failures = jobs.item_failures(session, ids)
    inside = scores.item_failures(session, ids)
    spent = answers.spending_of(session, ids)
    return tuple(
        _run(
            card,
            ExplainSpec.model_validate(jobs.get_spec(session, card.job_id)),
            made=made.get(card.job_id, (0, 0)),
            failures=failures.get(card.job_id, _NO_FAILURES),
            inside=inside.get(card.job_id, _NO_FAILURES),
            spending=spent.get(card.job_id, Spending()),
        )
        for card in cards
    )


def _run(
    card: JobCard,
    spec: ExplainSpec,
    *,
    made: tuple[int, int],
    failures: Mapping[str, int],
    inside: Mapping[str, int],
    spending: Spending,
) -> RunCard:
    return RunCard(
        job=card,
        model_id=spec.model_id,
        sae_id=spec.sae_id,
        harvest_id=spec.harvest_id,
        budget=spec.budget,
        n_explanations=made[0],
        n_scores=made[1],
        failures=failures,
        item_failures=inside,
        spending=spending,
    )


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
            problem = FieldProblem.of(path, error)
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
