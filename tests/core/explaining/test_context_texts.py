"""Contexts as text: what is remembered of them equals what exact bytes give."""

import random

import numpy as np
import pytest

from core.autointerp.records import make_record
from core.domain.activation import Band, ContextActivations
from core.domain.views import Vocabulary
from core.explaining.context_texts import ContextTexts

PIECES = (b"<bos>", b" the", b" river", b"\xe4\xbd", b"\xa0", b"\xff", b"", "é".encode(), b"\n")
WORDS = Vocabulary(model_id="m", tokens=PIECES, special_ids=frozenset({0}))


def context(ids, activations, *, index=0):
    return ContextActivations(
        context_index=index,
        band=Band.TOP,
        token_ids=np.array(ids, np.int32),
        activations=np.array(activations, np.float32),
        document=0,
        start=0,
        source="planted",
    )


def from_bytes(found):
    ids = found.token_ids.tolist()
    return make_record(
        [PIECES[i] if 0 <= i < len(PIECES) else b"" for i in ids],
        found.activations.tolist(),
        scored=[i != 0 for i in ids],
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_record_equals_the_one_from_exact_bytes(seed):
    rng = random.Random(seed)
    ids = [rng.randrange(-1, len(PIECES) + 1) for _ in range(rng.randrange(0, 12))]
    found = context(ids, [rng.choice([0.0, rng.random() * 9]) for _ in ids], index=seed)
    texts = ContextTexts(WORDS)
    assert texts.record(found) == from_bytes(found)
    assert texts.record(found) == from_bytes(found)


def test_a_context_keeps_its_text_and_takes_each_features_activations():
    texts = ContextTexts(WORDS)
    first = texts.record(context([0, 1, 3, 4], [9.0, 0.5, 1.0, 3.0]))
    second = texts.record(context([0, 1, 3, 4], [9.0, 0.0, 0.0, 0.0]))
    assert first.tokens == second.tokens == (" the", "你")
    assert first.activations == (0.5, 3.0)
    assert second.activations == (0.0, 0.0)
