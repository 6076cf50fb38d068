"""A run of explanations: every feature explained, every explanation scored, at a known cost.

Rounds, since the shuffled floor of a score needs the explanations of other features: explaining,
choosing among samples where that is wanted, scoring. Items of a round are worked on side by side;
the endpoint's own gate bounds what is asked at once. Done items are written with what they made in
one transaction, so that a later attempt skips them; an item that was under way asks again, and the
answers it had got come from the stored ones.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic import JsonValue

from core.autointerp.text import visible
from core.db.repositories import answers, attempts, catalog, explanations, scores
from core.db.repositories.scores import NewScore
from core.db.session import Session
from core.domain.explain_job import ExplainerSetting, ExplainSpec, ScorerSetting
from core.domain.explanation import Failure, ScoreKind
from core.domain.job import JobFailure
from core.domain.views_explain import Spending
from core.errors import Invalid, LlmUnsupported, NotFound
from core.explaining.answer_book import AnswerBook
from core.explaining.choosing import ChoiceItem, Comparison, choice_items, rank
from core.explaining.connection import Connection, Connections
from core.explaining.context_texts import ContextTexts
from core.explaining.examiner import (
    Examination,
    embedder_of,
    examine,
    judge_setting,
    simulator_of,
)
from core.explaining.explainer import ExplainItem, explain, explain_items, made_explanation
from core.explaining.features import choose_features
from core.explaining.material import SplitSizes, split_of
from core.explaining.purse import Purse
from core.explaining.strangers import Candidate, Strangers
from core.llm.budget import Limits
from worker.explain.item_book import Chosen, ItemBook, Made
from worker.explain.materials import Materials
from worker.explain.rare_collections import rare_collections
from worker.explain.score_item import ScoreItem, check_unseen, score_items
from worker.explain.side_by_side import side_by_side
from worker.progress import MAX_LINE_LENGTH, JobContext

_OFFLINE_PLACES = 4
_SCORE_REQUESTS = 8  # a score asks at least so much at once
_METRICS_A_ROUND = 100
_TOLD_FAILURES = 5  # of one kind, in the log; all are counted
_RAW_CHARS = 300

T = TypeVar("T", ExplainItem, ChoiceItem, ScoreItem)


def run_explain(spec: ExplainSpec, job: JobContext) -> dict[str, JsonValue]:
    """Explain and score what the settings name.

    Returns:
        What was made, what failed by code, and what it cost, over all attempts.

    Raises:
        BudgetReached, EndpointStopped: paused; what is done stays done, nothing is asked twice.
        Invalid, NotFound: an endpoint, its key, the SAE or its harvest is missing.
        LlmUnsupported: an endpoint lacks an ability that the settings need.
        Cancelled: asked to stop.
    """
    began = time.monotonic()
    book = AnswerBook(job.open_scope, job_id=job.job_id)
    try:
        run = ExplainRun(spec, job)
        with rare_collections():
            asyncio.run(run.work(book))
    finally:
        book.close()
    return {**_result(job, run), "seconds": round(time.monotonic() - began, 1)}


class ExplainRun:
    """One attempt at a run."""

    def __init__(self, spec: ExplainSpec, job: JobContext) -> None:
        self.spec = spec
        self.job = job
        with job.open_scope() as session:
            self.features = choose_features(session, spec)
            sae = catalog.get_sae(
                session, model_id=spec.model_id, sae_id=spec.sae_id, harvest_id=spec.harvest_id
            )
            revision = sae.harvest.model_revision if sae.harvest else None
            words = catalog.get_vocabulary(session, model_id=spec.model_id, revision=revision)
            spent = answers.spending_of(session, [job.job_id]).get(job.job_id, Spending())
        self._harvest_id = sae.harvest.harvest_id if sae.harvest else spec.harvest_id
        self._words = words
        self._finished = frozenset(job.finished_items())
        self._purse = Purse(_limits(spec), spent=spent)
        self._sizes = SplitSizes.of(spec)
        self._told: Counter[str] = Counter()

    async def work(self, book: AnswerBook) -> None:
        """All rounds, with the endpoints open."""
        self._materials = Materials(
            self.job.open_scope,
            self.features,
            harvest_id=self._harvest_id,
            texts=ContextTexts(self._words),
        )
        self._connections = _connections(self.job, book, self._purse)
        try:
            explainer = await self._open(self.spec.explainer)
            scorer = await self._open(self.spec.scorer)
            self._embedder = await self._open_embedder()
            _check_abilities(self.spec, scorer, self._embedder)
            if self.spec.explainer is not None:
                await self._explain_all(self.spec.explainer, explainer)
            if self.spec.explainer is not None and self.spec.explainer.choose_best:
                await self._choose_all(scorer)
            if self.spec.scorer is not None:
                await self._score_all(self.spec.scorer, scorer)
        finally:
            await self._connections.close()
            await self._materials.close()

    async def _open(self, setting: ExplainerSetting | ScorerSetting | None) -> Connection | None:
        if setting is None or setting.endpoint_id is None:
            return None
        return await self._connections.get(setting.endpoint_id)

    async def _open_embedder(self) -> Connection | None:
        scorer = self.spec.scorer
        if scorer is None or scorer.embedder_id is None:
            return None
        return await self._connections.get(scorer.embedder_id)

    async def _explain_all(self, setting: ExplainerSetting, connection: Connection | None) -> None:
        async def make(item: ExplainItem) -> Made:
            material = await self._materials.get(item.feature)
            split = split_of(material, self._sizes)
            outcome, messages = await explain(
                item, material, split, setting=setting, connection=connection
            )
            if isinstance(outcome, Failure):
                self._connections.raise_if_stopped()
                return _failure_of(outcome)
            return made_explanation(
                item,
                outcome.value,
                messages=messages,
                material=material,
                split=split,
                setting=setting,
                job_id=self.job.job_id,
            )

        items = self._to_explain(setting)
        places = _places(connection, requests=1)
        await self._round("explaining", "explanations", items, make, places=places)

    async def _choose_all(self, connection: Connection | None) -> None:
        """Compare the samples of each prompt by the first kind of test that an endpoint does."""
        setting = self.spec.scorer
        if setting is None or setting.chooser is None:
            return
        with self.job.open_scope() as session:
            items = choice_items(explanations.of_job(session, self.job.job_id))
        compare = Comparison(
            kind=setting.chooser,
            setting=setting,
            connection=connection,
            embedder=self._embedder,
            seed=self.spec.seed,
        )

        async def make(item: ChoiceItem) -> Made:
            material = await self._materials.get(item.feature)
            texts = [card.explanation.text for card in item.cards]
            examined = await compare.examine(texts, material, split_of(material, self._sizes))
            if any(found.has_failures for found in examined):
                self._connections.raise_if_stopped()
            made = [card.explanation_id for card in item.cards]
            return Chosen(choices=tuple(zip(made, rank(examined), strict=True)))

        places = _places(connection, requests=_SCORE_REQUESTS)
        await self._round("choosing", "explanations", items, make, places=places)

    async def _score_all(self, setting: ScorerSetting, connection: Connection | None) -> None:
        with self.job.open_scope() as session:
            items = score_items(session, self.spec, setting, self.features, self.job.job_id)
            strangers = self._strangers(session, setting, items)

        async def make(item: ScoreItem) -> Made:
            found = await self._examine(item, strangers, setting=setting, connection=connection)
            if found.has_failures:
                self._connections.raise_if_stopped()
            return NewScore(
                explanation_id=item.card.explanation_id,
                score=found.score,
                examples=found.examples,
                shuffled_with=found.shuffled_with,
                endpoint_id=setting.asked_for(item.kind),
                job_id=self.job.job_id,
                item_key=item.key,
            )

        places = _places(connection, requests=_SCORE_REQUESTS)
        await self._round("scoring", "scores", items, make, places=places)

    async def _examine(
        self,
        item: ScoreItem,
        strangers: Strangers,
        *,
        setting: ScorerSetting,
        connection: Connection | None,
    ) -> Examination:
        card = item.card
        material = await self._materials.get(card.feature)
        check_unseen(card, material.harvest_id)
        own = Candidate(index=card.feature.index, text=card.explanation.text)
        return await examine(
            item.kind,
            own.text,
            split_of(material, self._sizes, seen=item.seen),
            material=material,
            setting=setting,
            connection=connection,
            shuffled=strangers.text_for(own),
            seed=self.spec.seed,
            embedder=self._embedder,
        )

    def _to_explain(self, setting: ExplainerSetting) -> tuple[ExplainItem, ...]:
        items = explain_items(self.features, setting)
        if not setting.skip_explained:
            return items
        with self.job.open_scope() as session:
            there = explanations.explained(
                session,
                model_id=self.spec.model_id,
                sae_id=self.spec.sae_id,
                endpoint_id=setting.endpoint_id,
                except_job=self.job.job_id,
            )
        return tuple(item for item in items if (item.feature.index, item.style) not in there)

    def _strangers(
        self, session: Session, setting: ScorerSetting, items: Sequence[ScoreItem]
    ) -> Strangers:
        """Whose explanations may stand in for another's: the run's own, else the SAE's."""
        cards = [item.card for item in items] if setting.shuffled_floor else []
        if cards and len({card.feature for card in cards}) < 2:
            there = explanations.current(
                session, model_id=self.spec.model_id, sae_id=self.spec.sae_id
            )
            cards = [*there]
        candidates = (Candidate(index=c.feature.index, text=c.explanation.text) for c in cards)
        return Strangers(candidates, seed=self.spec.seed)

    def _tell(self, key: str, failure: JobFailure) -> None:
        """Tell of the first few failures of a kind."""
        self._told[failure.code] += 1
        if self._told[failure.code] <= _TOLD_FAILURES:
            message = failure.message[:MAX_LINE_LENGTH]
            self.job.tell("item_failed", "warning", item=key, message=message)

    async def _round(
        self,
        phase: str,
        unit: str,
        items: Sequence[T],
        make: Callable[[T], Awaitable[Made]],
        *,
        places: int,
    ) -> None:
        """Work on the items that are not done yet, side by side, and tell how far it is."""
        waiting = [item for item in items if item.key not in self._finished]
        counter = _Counter(self.job, self._purse, phase=phase, unit=unit, total=len(items))
        counter.add(len(items) - len(waiting))
        self.job.tell("explain_round", phase=phase, n=len(waiting), unit=unit, n_done=counter.done)
        async with ItemBook(self.job, on_written=counter.add) as book:

            async def one(item: T) -> None:
                made = await self._made(item, make)
                if isinstance(made, JobFailure):
                    self._tell(item.key, made)
                await book.add(item.key, made)

            def check() -> None:
                self.job.check()
                book.raise_error()

            await side_by_side(waiting, one, places=places, check=check)

    async def _made(self, item: T, make: Callable[[T], Awaitable[Made]]) -> Made:
        try:
            return await make(item)
        except (Invalid, LlmUnsupported, NotFound) as error:
            return JobFailure(code=error.code, message=error.message, hint=error.hint)


class _Counter:
    """How many items of a round are done, told as progress and in the run's charts."""

    def __init__(self, job: JobContext, purse: Purse, *, phase: str, unit: str, total: int) -> None:
        self.done = 0
        self._job = job
        self._purse = purse
        self._about = {"phase": phase, "unit": unit}
        self._total = total
        self._every = max(1, total // _METRICS_A_ROUND)

    def add(self, n: int) -> None:
        """So many more are done."""
        before, self.done = self.done, self.done + n
        self._job.progress(done=self.done, total=self._total, **self._about)
        if n and self.done // self._every > before // self._every:
            purse = self._purse
            spent = {"requests": purse.requests, "tokens": purse.tokens, "cost": purse.cost}
            self._job.metric(self.done, **{name: float(value) for name, value in spent.items()})


def _places(connection: Connection | None, *, requests: int) -> int:
    """Items under way at once: so many that the endpoint's gate is the limit, and a few to read."""
    if connection is None:
        return _OFFLINE_PLACES
    return _OFFLINE_PLACES + connection.client.endpoint.concurrency // requests


def _check_abilities(
    spec: ExplainSpec, scorer: Connection | None, embedder: Connection | None
) -> None:
    """Refuse at once what the endpoints cannot do, in place of failing score by score."""
    if spec.scorer is None:
        return
    for kind in spec.scorer.score_kinds:
        if kind is ScoreKind.EMBEDDING:
            embedder_of(embedder)
        elif scorer is None:
            continue
        elif kind is ScoreKind.SIMULATION:
            simulator_of(spec.scorer, scorer)
        else:
            judge_setting(spec.scorer, scorer)


def _connections(job: JobContext, book: AnswerBook, purse: Purse) -> Connections:
    if job.keys is None:
        raise ValueError("a run of explanations needs a key ring")
    return Connections(
        job.open_scope,
        keys=job.keys,
        book=book,
        purse=purse,
        on_probe=lambda name: job.tell("endpoint_probed", endpoint=name),
    )


def _limits(spec: ExplainSpec) -> Limits:
    budget = spec.budget
    return Limits(cost=budget.max_cost, tokens=budget.max_tokens, requests=budget.max_requests)


def _failure_of(failed: Failure) -> JobFailure:
    raw = visible(failed.raw[:_RAW_CHARS])
    return JobFailure(
        code=failed.code.value,
        message=failed.message.replace("\x00", ""),
        hint=f"The answer was: {raw}" if raw else "",
    )


def _result(job: JobContext, run: ExplainRun) -> dict[str, JsonValue]:
    with job.open_scope() as session:
        made = scores.count_of_jobs(session, [job.job_id]).get(job.job_id, (0, 0))
        failures = attempts.failed_items(session, job.job_id)
        spent = answers.spending_of(session, [job.job_id]).get(job.job_id, Spending())
    return {
        "n_features": len(run.features),
        "n_explanations": made[0],
        "n_scores": made[1],
        "failures": dict(Counter(failures.values()).most_common()),
        "requests": spent.requests - spent.from_cache,
        "tokens": spent.prompt_tokens + spent.completion_tokens,
        "cost": spent.cost,
    }
