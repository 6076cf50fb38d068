"""Embedding triage: explanations nearer to firing contexts than to silent ones score high."""

import numpy as np
import pytest

from core.autointerp.embedding import (
    BATCH,
    Similarities,
    embedding_measures,
    embedding_plan,
    only_auroc,
)
from core.autointerp.judging import JudgedContext
from core.autointerp.lookup import build_lookup
from core.autointerp.scoring import classification_floors
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer, Failure, FailureCode, Metric, Missing, ScoreKind
from core.domain.llm import EmbeddingRequest, Finish, Reply, read_vectors, write_vector
from tests.support.outcomes import failed, measured, value


def context(i, *, label, word="stone"):
    record = ActivationRecord(tokens=(f" {word}", f" {i}"), activations=(float(label), 0.0))
    return JudgedContext(record=record, context_index=i, label=label)


def reply(vectors):
    packed = tuple(write_vector(np.array(v, np.float32)) for v in vectors)
    return Reply(text="", finish=Finish.STOP, model="tiny-embedder", vectors=packed)


def answered(plan, vector_of):
    outcomes = []
    for question in plan.questions:
        assert isinstance(question.request, EmbeddingRequest)
        outcomes.append(question.read(reply([vector_of(t) for t in question.request.texts])))
    return outcomes


def direction(text):
    return [1.0, 0.1] if "river" in text else [0.1, 1.0]


def test_vectors_survive_being_packed():
    vectors = [[0.5, -1.25, 3e-7], [1.0, 0.0, 2.0]]
    assert read_vectors(reply(vectors)).tolist() == np.array(vectors, np.float32).tolist()


def test_an_explanation_near_the_firing_contexts_scores_one_and_another_does_not():
    contexts = [context(i, label=i < 10, word="river" if i < 10 else "stone") for i in range(24)]
    plan = embedding_plan("the river", contexts)
    asked = [q.request for q in plan.questions if isinstance(q.request, EmbeddingRequest)]
    assert [len(request.texts) for request in asked] == [1, BATCH, 4]
    found = value(plan.join(answered(plan, direction)))
    score = embedding_measures(contexts, found)
    assert score.kind is ScoreKind.EMBEDDING
    assert (score.n, score.n_ok, score.judge) == (24, 24, "tiny-embedder")
    assert measured(score, Metric.AUROC) == 1.0
    other = embedding_plan("a stone", contexts)
    against = value(other.join(answered(other, direction)))
    assert measured(embedding_measures(contexts, against), Metric.AUROC) == 0.0


def test_the_contexts_requests_do_not_depend_on_the_explanation():
    contexts = [context(i, label=True) for i in range(3)]
    first, second = embedding_plan("a", contexts), embedding_plan("b", contexts)
    assert first.questions[0].request != second.questions[0].request
    assert first.questions[1].request == second.questions[1].request


def test_a_batch_that_fails_fails_its_contexts_and_leaves_no_zero():
    contexts = [context(i, label=i % 2 == 0) for i in range(BATCH + 5)]
    plan = embedding_plan("x", contexts)
    outcomes = answered(plan, direction)
    outcomes[1] = Failure(code=FailureCode.TIMEOUT, message="slow")
    score = embedding_measures(contexts, value(plan.join(outcomes)))
    assert score.failures == {FailureCode.TIMEOUT: BATCH}
    assert score.metrics[Metric.AUROC].missing is Missing.LOW_COVERAGE


def test_an_explanation_that_cannot_be_embedded_fails_whole():
    contexts = [context(0, label=True)]
    plan = embedding_plan("x", contexts)
    outcomes = answered(plan, direction)
    outcomes[0] = Failure(code=FailureCode.SERVER, message="down")
    assert failed(plan.join(outcomes)).code is FailureCode.SERVER


def test_a_zero_vector_is_a_failure():
    contexts = [context(0, label=True), context(1, label=False)]
    plan = embedding_plan("x", contexts)
    found = value(plan.join(answered(plan, lambda t: [0.0, 0.0] if "1" in t else [1.0, 2.0])))
    assert isinstance(found.cosines[0], Answer)
    assert failed(found.cosines[1]).code is FailureCode.PARSE


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_score(label):
    contexts = [context(i, label=label) for i in range(4)]
    found = Similarities(cosines=tuple(Answer(0.5) for _ in contexts), embedder="m")
    assert embedding_measures(contexts, found).metrics[Metric.AUROC].missing is Missing.ONE_CLASS


def test_floors_of_an_embedding_score_have_an_auroc_alone():
    contexts = [context(i, label=i < 2, word="river" if i < 2 else "stone") for i in range(4)]
    lookup = build_lookup(c.record for c in contexts)
    floors = classification_floors(ScoreKind.EMBEDDING, contexts, lookup)
    for floor in floors.values():
        assert list(only_auroc(floor).metrics) == [Metric.AUROC]
