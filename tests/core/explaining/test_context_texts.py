"""Contexts as text: what is remembered of them equals what exact bytes give."""

import random

import numpy as np
import pytest

from core.autointerp.records import make_record
from core.domain.views import Vocabulary
from core.explaining.context_texts import MOST_KEPT, ContextTexts

PIECES = (b"<bos>", b" the", b" river", b"\xe4\xbd", b"\xa0", b"\xff", b"", "é".encode(), b"\n")
WORDS = Vocabulary(model_id="m", tokens=PIECES, special_ids=frozenset({0}))


def read(texts, ids, activations, *, index=0):
    """The record of one context, as a feature's stored row gives it."""
    known = texts.known([index]) or texts.learn({index: np.array(ids, np.int32)})
    positions = np.flatnonzero(activations).astype(np.uint16)
    values = np.array(activations, np.float32)[positions]
    return known[index].record(positions, values)


def from_bytes(ids, activations):
    return make_record(
        [PIECES[i] if 0 <= i < len(PIECES) else b"" for i in ids],
        np.array(activations, np.float32).tolist(),
        scored=[i != 0 for i in ids],
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_record_equals_the_one_from_exact_bytes(seed):
    rng = random.Random(seed)
    ids = [rng.randrange(-1, len(PIECES) + 1) for _ in range(rng.randrange(0, 12))]
    activations = [rng.choice([0.0, rng.random() * 9]) for _ in ids]
    texts = ContextTexts(WORDS)
    assert read(texts, ids, activations) == from_bytes(ids, activations)
    assert read(texts, ids, activations) == from_bytes(ids, activations)


def test_a_context_keeps_its_text_and_takes_each_features_activations():
    texts = ContextTexts(WORDS)
    first = read(texts, [0, 1, 3, 4], [9.0, 0.5, 1.0, 3.0])
    second = read(texts, [0, 1, 3, 4], [9.0, 0.0, 0.0, 0.0])
    silent = read(texts, [0, 1, 3, 4], [0.0, 0.0, 0.0, 0.0])
    assert first.tokens == second.tokens == silent.tokens == (" the", "你")
    assert first.activations == (0.5, 3.0)
    assert second.activations == silent.activations == (0.0, 0.0)


def test_no_more_contexts_are_remembered_than_a_limit():
    texts = ContextTexts(WORDS)
    for start in range(0, MOST_KEPT + 1, 5_000):
        texts.learn({number: np.array([1], np.int32) for number in range(start, start + 5_000)})
    assert len(texts.known(range(2 * MOST_KEPT))) <= MOST_KEPT
