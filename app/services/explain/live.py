"""One feature explained and scored while somebody watches: steps as they happen."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

import anyio

from app.services.features import catalog
from core.db.repositories import explanations, scores
from core.db.repositories.scores import NewScore
from core.db.session import Session, SessionScope
from core.domain.explain_job import ExplainerSetting, ExplainSpec, ListedFeatures, ScorerSetting
from core.domain.explanation import Choice, Failure, ScoreKind
from core.domain.ids import FeatureId
from core.domain.llm import Message
from core.domain.views_explain import ExplanationCard, ScoreCard
from core.errors import Invalid, SparsightError
from core.explaining.answer_book import AnswerBook
from core.explaining.choosing import ChoiceItem, Comparison, choice_items, rank
from core.explaining.connection import Connection, Connections
from core.explaining.context_texts import ContextTexts
from core.explaining.examiner import Examination, examine
from core.explaining.explainer import (
    ExplainItem,
    explain,
    explain_items,
    explain_question,
    made_explanation,
    messages_of,
)
from core.explaining.keys import KeyRing
from core.explaining.material import Material, SplitSizes, read_material, split_of
from core.explaining.strangers import Candidate, Strangers

T = TypeVar("T")


class LiveKind(StrEnum):
    """What a step tells."""

    ASKED = "asked"  # the messages that are being sent
    EXPLAINED = "explained"
    CHOOSING = "choosing"  # samples of one prompt are compared
    CHOSEN = "chosen"
    TESTING = "testing"  # a test of an explanation begins
    SCORED = "scored"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStep:
    """One thing that happened.

    Attributes:
        messages: as they are sent; only for ASKED.
        explanation: for EXPLAINED and TESTING; for SCORED with the new score.
        samples: for CHOOSING, and for CHOSEN with each one's place, the best first.
        test: the kind of test, for CHOOSING and TESTING.
        score: for SCORED.
        code, message, hint: for FAILED.
    """

    kind: LiveKind
    messages: tuple[Message, ...] = ()
    explanation: ExplanationCard | None = None
    samples: tuple[ExplanationCard, ...] = ()
    score: ScoreCard | None = None
    test: ScoreKind | None = None
    code: str = ""
    message: str = ""
    hint: str = ""


async def explain_live(
    scope: SessionScope, keys: KeyRing, spec: ExplainSpec, *, only: int | None = None
) -> AsyncGenerator[LiveStep]:
    """Explain and score the one feature of a checked run at once; what fails is a step too.

    The settings are those of a run that lists one feature. Nothing is held open between steps
    but the connection to the endpoint; whoever stops reading stops the work.

    Args:
        scope: opens sessions.
        keys: opens API keys.
        spec: the settings, checked.
        only: of the explanations that are there already, score this one alone.

    Raises:
        Invalid: the settings name more than one feature.
    """
    if not isinstance(spec.features, ListedFeatures) or len(spec.features.indices) != 1:
        raise Invalid("One feature is explained at once.", hint="Submit a run for more.")
    live = _Live(scope, keys, spec, index=spec.features.indices[0], only=only)
    try:
        async for step in live.steps():
            yield step
    except SparsightError as error:
        yield LiveStep(
            kind=LiveKind.FAILED, code=error.code, message=error.message, hint=error.hint
        )
    finally:
        with anyio.CancelScope(shield=True):  # whoever stops reading cancels this task
            await live.close()


def _store_score(
    card: ExplanationCard, found: Examination, setting: ScorerSetting, session: Session
) -> LiveStep:
    made = NewScore(
        explanation_id=card.explanation_id,
        score=found.score,
        examples=found.examples,
        shuffled_with=found.shuffled_with,
        endpoint_id=setting.asked_for(found.score.kind),
    )
    scores.add(session, made)
    fresh = explanations.get_card(session, card.explanation_id)
    return LiveStep(kind=LiveKind.SCORED, explanation=fresh, score=fresh.scores[0])


def _store_choices(
    item: ChoiceItem, choices: Sequence[Choice], session: Session
) -> tuple[ExplanationCard, ...]:
    """Note how each sample did; returns them, the best first."""
    pairs = sorted(zip(choices, item.cards, strict=True), key=lambda pair: pair[0].rank)
    for choice, card in pairs:
        explanations.set_choice(session, card.explanation_id, choice)
    return tuple(explanations.get_card(session, card.explanation_id) for _, card in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TestedBy:
    """How explanations are tested, and by which endpoints."""

    setting: ScorerSetting
    judge: Connection | None
    embedder: Connection | None


class _Live:
    def __init__(
        self,
        scope: SessionScope,
        keys: KeyRing,
        spec: ExplainSpec,
        *,
        index: int,
        only: int | None,
    ) -> None:
        self._scope = scope
        self._only = only
        self._spec = spec
        self._feature = FeatureId(model_id=spec.model_id, sae_id=spec.sae_id, index=index)
        self._sizes = SplitSizes.of(spec)
        self._book = AnswerBook(scope, job_id=None)
        self._connections = Connections(scope, keys=keys, book=self._book)

    async def close(self) -> None:
        try:
            await self._connections.close()
        finally:
            await asyncio.to_thread(self._book.close)

    async def steps(self) -> AsyncIterator[LiveStep]:
        spec = self._spec
        material = await self._in_thread(self._read)
        made: list[ExplanationCard] = []
        if spec.explainer is not None:
            connection = await self._open(spec.explainer.endpoint_id)
            for item in explain_items([self._feature], spec.explainer):
                async for step in self._explain(item, material, spec.explainer, connection):
                    yield step
                    made += [step.explanation] if step.explanation else []
        if spec.scorer is None:
            return
        tested_by = _TestedBy(
            setting=spec.scorer,
            judge=await self._open(spec.scorer.endpoint_id),
            embedder=await self._open(spec.scorer.embedder_id),
        )
        if spec.explainer is not None and spec.explainer.choose_best:
            rejected: set[int] = set()
            async for step in self._choose(made, material, tested_by):
                yield step
                rejected.update(card.explanation_id for card in step.samples[1:])
            made = [card for card in made if card.explanation_id not in rejected]
        existing = await self._in_thread(self._existing)
        for card in (*made, *existing):
            async for step in self._score(card, material, tested_by):
                yield step

    async def _explain(
        self,
        item: ExplainItem,
        material: Material,
        setting: ExplainerSetting,
        connection: Connection | None,
    ) -> AsyncIterator[LiveStep]:
        split = split_of(material, self._sizes)
        if item.style is not None:
            asked = explain_question(
                material, split, item.style, setting=setting, sample=item.sample
            )
            yield LiveStep(kind=LiveKind.ASKED, messages=messages_of(asked))
        outcome, messages = await explain(
            item, material, split, setting=setting, connection=connection
        )
        if isinstance(outcome, Failure):
            yield LiveStep(kind=LiveKind.FAILED, code=outcome.code.value, message=outcome.message)
            return
        explanation = outcome.value

        def store(session: Session) -> ExplanationCard:
            made = made_explanation(
                item,
                explanation,
                messages=messages,
                material=material,
                split=split,
                setting=setting,
                job_id=None,
            )
            return explanations.get_card(session, explanations.add(session, made))

        card = await self._in_thread(store)
        yield LiveStep(kind=LiveKind.EXPLAINED, explanation=card)

    async def _choose(
        self, made: Sequence[ExplanationCard], material: Material, tested_by: "_TestedBy"
    ) -> AsyncIterator[LiveStep]:
        """Compare the samples of each prompt, by the rule of runs, on contexts kept for that."""
        kind = tested_by.setting.chooser
        if kind is None:
            return
        compare = Comparison(
            kind=kind,
            setting=tested_by.setting,
            connection=tested_by.judge,
            embedder=tested_by.embedder,
            seed=self._spec.seed,
        )
        for item in choice_items(made):
            yield LiveStep(kind=LiveKind.CHOOSING, samples=item.cards[:1], test=kind)
            texts = [card.explanation.text for card in item.cards]
            examined = await compare.examine(texts, material, split_of(material, self._sizes))
            if any(found.has_failures for found in examined):
                self._connections.raise_if_stopped()
            ranked = await self._in_thread(partial(_store_choices, item, rank(examined)))
            yield LiveStep(kind=LiveKind.CHOSEN, samples=ranked, test=kind)

    async def _score(
        self, card: ExplanationCard, material: Material, tested_by: "_TestedBy"
    ) -> AsyncIterator[LiveStep]:
        own = Candidate(index=card.feature.index, text=card.explanation.text)
        setting = tested_by.setting

        def context(session: Session) -> tuple[tuple[int, ...], str | None]:
            seen = explanations.seen_contexts(session, [card.explanation_id])
            return seen.get(card.explanation_id, ()), self._stranger(session, own)

        seen, shuffled = await self._in_thread(context)
        for kind in setting.score_kinds:
            yield LiveStep(kind=LiveKind.TESTING, explanation=card, test=kind)
            found = await examine(
                kind,
                own.text,
                split_of(material, self._sizes, seen=seen),
                material=material,
                setting=setting,
                connection=tested_by.judge,
                shuffled=shuffled,
                seed=self._spec.seed,
                embedder=tested_by.embedder,
            )
            if found.has_failures:
                self._connections.raise_if_stopped()
            yield await self._in_thread(partial(_store_score, card, found, setting))

    def _stranger(self, session: Session, own: Candidate) -> str | None:
        """Another feature's explanation, where that floor is wanted."""
        scorer = self._spec.scorer
        if scorer is None or not scorer.shuffled_floor:
            return None
        there = explanations.current(
            session, model_id=self._spec.model_id, sae_id=self._spec.sae_id
        )
        pool = (Candidate(index=c.feature.index, text=c.explanation.text) for c in there)
        return Strangers(pool, seed=self._spec.seed).text_for(own)

    async def _open(self, endpoint_id: int | None) -> Connection | None:
        return None if endpoint_id is None else await self._connections.get(endpoint_id)

    def _read(self, session: Session) -> Material:
        sae = catalog.get_sae(
            session,
            model_id=self._spec.model_id,
            sae_id=self._spec.sae_id,
            harvest_id=self._spec.harvest_id,
        )
        revision = sae.harvest.model_revision if sae.harvest else None
        words = catalog.vocabulary(session, model_id=self._spec.model_id, revision=revision)
        return read_material(
            session,
            self._feature,
            harvest_id=self._spec.harvest_id,
            texts=ContextTexts(words),
        )

    def _existing(self, session: Session) -> tuple[ExplanationCard, ...]:
        scorer = self._spec.scorer
        found = explanations.current(
            session,
            model_id=self._spec.model_id,
            sae_id=self._spec.sae_id,
            methods=scorer.existing if scorer else (),
            indices=[self._feature.index],
        )
        if self._only is not None:
            return tuple(card for card in found if card.explanation_id == self._only)
        harvests = {None, self._spec.harvest_id}
        return tuple(card for card in found if card.harvest_id in harvests)

    async def _in_thread(self, work: Callable[[Session], T]) -> T:
        def run() -> T:
            with self._scope() as session:
                return work(session)

        return await asyncio.to_thread(run)
