"""Embedding triage: does an explanation lie nearer to firing contexts than to silent ones?

No judge is needed, only a model that embeds texts, so that thousands of explanations are sorted
for little. The score is the AUROC of the cosine between the embeddings of explanation and context
(Paulo et al., ICML 2025). It agrees with people less than detection and fuzzing do (Spearman 0.32
against 0.59 and 0.69 there): it finds what is hopeless, and proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.autointerp.judging import JudgedContext
from core.autointerp.text import one_line, visible
from core.autointerp.triage import similarities
from core.domain.explanation import (
    Answer,
    Failure,
    FailureCode,
    Measure,
    Metric,
    Missing,
    Outcome,
    Score,
    ScoreKind,
    count_failures,
    missing_for_coverage,
)
from core.domain.llm import EmbeddingRequest, Plan, Purpose, Question, Reply, read_vectors
from core.stats import Draws, auroc, bootstrap_interval, resampled_auroc

BATCH = 20  # texts in one request
LABEL = "embedding/plain/v1"  # the explanation and the contexts as they are, without instruction
_SEED = 0

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarities:
    """The cosine of each context with the explanation, in the contexts' order, and whose it is."""

    cosines: tuple[Outcome[float], ...]
    embedder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedded:
    vectors: tuple[Vector, ...]
    embedder: str


def embedding_plan(explanation: str, contexts: Sequence[JudgedContext]) -> Plan[Similarities]:
    """What to ask so as to have the similarity of every context.

    The contexts' requests do not depend on the explanation, so that the next one about the same
    contexts finds them answered. A batch that fails fails for each of its contexts.
    """
    texts = [visible("".join(context.record.tokens)) for context in contexts]
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    questions = (_question([one_line(explanation)]), *(_question(batch) for batch in batches))

    def join(outcomes: Sequence[Outcome[_Embedded]]) -> Outcome[Similarities]:
        asked, *answered = outcomes
        if isinstance(asked, Failure):
            return asked
        (query,) = asked.value.vectors
        cosines: list[Outcome[float]] = []
        for batch, outcome in zip(batches, answered, strict=True):
            match outcome:
                case Answer(embedded):
                    cosines += [_cosine(c) for c in similarities(query, embedded.vectors)]
                case Failure() as failed:
                    cosines += [failed] * len(batch)
        return Answer(Similarities(cosines=tuple(cosines), embedder=asked.value.embedder))

    return Plan(questions=questions, join=join)


def embedding_measures(contexts: Sequence[JudgedContext], found: Similarities) -> Score:
    """AUROC of the cosines, firing contexts against silent ones."""
    n_ok = sum(isinstance(cosine, Answer) for cosine in found.cosines)
    gap = missing_for_coverage(n=len(contexts), n_ok=n_ok)
    pairs = [
        (context.label, cosine.value)
        for context, cosine in zip(contexts, found.cosines, strict=True)
        if isinstance(cosine, Answer)
    ]
    measure = Measure(value=None, missing=gap) if gap else _measure(pairs)
    return Score(
        kind=ScoreKind.EMBEDDING,
        metrics={Metric.AUROC: measure},
        n=len(contexts),
        n_ok=n_ok,
        failures=count_failures(found.cosines),
        judge=found.embedder,
        template=LABEL,
    )


def only_auroc(score: Score) -> Score:
    """The score without what similarities cannot have: a verdict and what is counted from it."""
    return replace(score, metrics={Metric.AUROC: score.metrics[Metric.AUROC]})


def _measure(pairs: Sequence[tuple[bool, float]]) -> Measure:
    labels = np.array([label for label, _ in pairs], dtype=bool)
    values = np.array([value for _, value in pairs], dtype=np.float64)
    if labels.all() or not labels.any():
        return Measure(value=None, missing=Missing.ONE_CLASS)

    def resampled(draws: Draws) -> np.ndarray:
        return resampled_auroc(labels, values, draws)

    interval = bootstrap_interval(resampled, len(labels), rng=np.random.default_rng(_SEED))
    return Measure(value=auroc(labels, values), interval=interval)


def _question(texts: Sequence[str]) -> Question[_Embedded]:
    request = EmbeddingRequest(purpose=Purpose.EMBED, texts=tuple(texts), template=LABEL)

    def read(reply: Reply) -> Outcome[_Embedded]:
        vectors = tuple(tuple(row) for row in read_vectors(reply).tolist())
        return Answer(_Embedded(vectors=vectors, embedder=reply.model))

    return Question(request=request, read=read)


def _cosine(value: float) -> Outcome[float]:
    if np.isnan(value):
        return Failure(code=FailureCode.PARSE, message="An embedding is zero everywhere.")
    return Answer(value)
