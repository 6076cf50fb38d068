"""What a request may use at most is told before it is sent, and a hard budget rests on it."""

import pytest

from core.autointerp.explain import explain_from_records
from core.domain.activation import ActivationRecord
from core.domain.llm import EmbeddingRequest, Purpose
from core.llm.prices import estimate, most_tokens


@pytest.mark.parametrize(
    ("text", "real"),
    [
        ("x\t0\n" * 100, 400),  # token, tab, digit and line break are a token each
        ("2026-11-25\n" * 10, 110),
        ('{"i": 3, "a": 7}, ' * 10, 120),
        ("⏎\t0\n" * 10, 50),
        ("特征在月份上被激活。" * 10, 170),
        ("    return x\n" * 10, 40),
        ("The main thing this neuron does is find names of rivers. " * 10, 120),
    ],
)
def test_no_text_has_more_tokens_than_are_counted(text, real):
    assert real <= most_tokens(text) <= 2.5 * real


def test_rows_of_tokens_cost_more_than_their_bytes_make_one_think():
    record = ActivationRecord(tokens=("a",) * 1_000, activations=(1.0,) * 1_000)
    few = estimate(explain_from_records([record][:1]).request).prompt
    more = estimate(explain_from_records([record, record]).request).prompt
    assert more - few >= 4_000


def test_texts_to_embed_are_counted_together():
    request = EmbeddingRequest(purpose=Purpose.EMBED, texts=("a b", "c d"))
    assert estimate(request).prompt >= 4
    assert estimate(request).completion == 0
