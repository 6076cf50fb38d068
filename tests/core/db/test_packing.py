"""What is packed comes out bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.db.packing.numbers import narrow, offsets, widen, width_of
from core.db.packing.rows import join_rows, pack_random, pack_rows, unpack_random, unpack_rows
from core.db.packing.summary import pack_summaries, unpack_summary
from core.db.packing.words import pack_contexts, pack_tokens, unpack_context, unpack_tokens
from core.domain.activation import Band, ContextRows, StoredContexts
from tests.support.builders import make_sae_harvest, rows_of

FIELDS = ("row_offsets", "context_index", "band", "nnz_offsets", "positions", "values")
BITS32 = st.integers(0, 2**32 - 1)


def assert_same(found, expected):
    """Every array has the same type and bytes."""
    for name in FIELDS:
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype, name
        assert a.tobytes() == b.tobytes(), name


@st.composite
def context_rows(draw):
    """Any rows of up to four features, with any bits as activations."""
    per_feature = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    n_rows = sum(per_feature)
    sizes = draw(st.lists(st.integers(0, 5), min_size=n_rows, max_size=n_rows))
    n = sum(sizes)

    def numbers(values, count, dtype):
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    return ContextRows(
        row_offsets=offsets(np.array(per_feature)),
        context_index=numbers(st.integers(-(2**31), 2**31 - 1), n_rows, np.int32),
        band=numbers(st.integers(0, 5), n_rows, np.int8),
        nnz_offsets=offsets(np.array(sizes, np.int64)),
        positions=numbers(st.integers(0, 2**16 - 1), n, np.uint16),
        values=numbers(BITS32, n, np.uint32).view(np.float32),
    )


@given(arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 2**32 - 1)))
def test_numbers_come_back_from_their_fewest_bytes(values):
    width = width_of(values)
    data = narrow(values, width)
    assert len(data) == width * len(values)
    assert widen(data, width).tolist() == values.tolist()
    if width > 1:
        assert values.max() >= 256 ** (width - 1)


@given(context_rows())
def test_rows_come_back_bit_for_bit(rows):
    packed = list(pack_rows(rows))
    assert len(packed) == len(rows.row_offsets) - 1
    assert_same(join_rows([unpack_rows(data) for data in packed]), rows)


@given(context_rows())
def test_any_random_contexts_come_back_even_when_nothing_is_shared(rows):
    shared, packed = pack_random(rows)
    assert_same(join_rows([unpack_random(shared, data) for data in packed]), rows)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.floats(0, 1))
def test_shared_random_contexts_are_written_once(seed, n_features, n_contexts, density):
    rng = np.random.default_rng(seed)
    values = rng.random((n_contexts, 4, n_features)).astype(np.float32)
    values[rng.random(values.shape) >= density] = 0
    peaks = values.max(axis=1)
    chosen = [
        [(int(c), Band.RANDOM) for c in np.lexsort((np.arange(n_contexts), -peaks[:, f]))]
        for f in range(n_features)
    ]
    rows = rows_of(chosen, values)
    shared, packed = pack_random(rows)
    assert len(shared) == 4 * n_contexts
    data = list(packed)
    silent = np.flatnonzero(values.max(axis=(0, 1)) == 0)
    assert all(data[feature] == b"" for feature in silent)
    assert_same(join_rows([unpack_random(shared, one) for one in data]), rows)


def test_the_summary_of_every_feature_comes_back():
    harvest, _ = make_sae_harvest(np.random.default_rng(3))
    harvest.histogram[0, 5] = 2**32 - 1
    harvest.histogram[1, 63] = 70_000
    for feature, data in enumerate(pack_summaries(harvest)):
        found = unpack_summary(data)
        assert found.histogram.counts.tolist() == harvest.histogram[feature].tolist()
        assert found.histogram.exponent == harvest.histogram_exponent[feature]
        pairs = (
            (found.coactivation_index, harvest.coactivation.index),
            (found.coactivation_value, harvest.coactivation.value),
            (found.coactivation_support, harvest.coactivation_support),
            (found.cosine_index, harvest.decoder_cosine.index),
            (found.cosine_value, harvest.decoder_cosine.value),
            (found.top_ids, harvest.logit_effect.top_ids),
            (found.top_values, harvest.logit_effect.top_values),
            (found.bottom_ids, harvest.logit_effect.bottom_ids),
            (found.bottom_values, harvest.logit_effect.bottom_values),
        )
        for one, all_features in pairs:
            assert one.tobytes() == all_features[feature].tobytes()


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_a_vocabulary_comes_back(tokens):
    assert unpack_tokens(pack_tokens(tokens)) == tuple(tokens)


@given(st.data())
def test_token_ids_come_back_without_padding(data):
    rows = data.draw(
        st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6), max_size=5)
    )
    ids = np.full((len(rows), 6), -1, np.int32)
    for row, line in zip(ids, rows, strict=True):
        row[: len(line)] = line
    contexts = StoredContexts(
        context_index=np.arange(len(rows), dtype=np.int32),
        token_ids=ids,
        document=np.zeros(len(rows), np.int64),
        start=np.zeros(len(rows), np.int32),
        source_index=np.zeros(len(rows), np.int32),
        sources=("one",),
    )
    assert [unpack_context(packed).tolist() for packed in pack_contexts(contexts)] == rows


def test_bytes_of_another_format_are_refused():
    harvest, _ = make_sae_harvest(np.random.default_rng(0))
    data = next(pack_rows(harvest.contexts))
    with pytest.raises(ValueError, match="format 9"):
        unpack_rows(bytes((9,)) + data[1:])
