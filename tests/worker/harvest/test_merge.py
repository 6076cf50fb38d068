"""However a corpus is cut into batches, shards and merges, the rows are the same bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.activation import Band
from tests.worker.harvest import dense
from worker.harvest.accumulator import Accumulator, Draws
from worker.harvest.bands import kept_contexts
from worker.harvest.candidates import Limits
from worker.harvest.fixed_point import from_limbs
from worker.harvest.forward import Encoded
from worker.harvest.nonzeros import find_nonzeros
from worker.harvest.sample import sample_contexts
from worker.harvest.sampled_contexts import random_contexts
from worker.harvest.state import state_arrays, state_from_arrays

N_CONTEXTS, SIZE, D_SAE = 41, 6, 9
LIMITS = Limits(n_top=3, n_sampled=8, seed=5)
DRAWN = sample_contexts(LIMITS.seed, N_CONTEXTS, 7)


def activations(seed: int = 0):
    """Sparse values on few levels, so that ties abound; feature 0 is dead, 1 dense."""
    rng = np.random.default_rng(seed)
    acts = rng.integers(1, 9, (N_CONTEXTS, SIZE, D_SAE)) * np.float32(0.37)
    acts *= rng.random(acts.shape) < np.array([0, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.3])
    acts = acts.astype(np.float32)
    acts *= np.float32(2.0) ** rng.integers(-12, 9, D_SAE)
    scored = rng.random((N_CONTEXTS, SIZE)) < 0.9
    scored[:, 0] = False
    return acts.astype(np.float32), scored


def accumulator():
    return Accumulator(
        d_sae=D_SAE,
        context_size=SIZE,
        limits=LIMITS,
        draws=Draws(DRAWN[:4], DRAWN),
        device=torch.device("cpu"),
    )


def feed(target: Accumulator, acts, scored, first: int, end: int) -> None:
    """One batch, in two parts."""
    flat, mask = torch.from_numpy(acts[first:end]), torch.from_numpy(scored[first:end])
    flat, mask = flat.reshape(-1, D_SAE), mask.reshape(-1)
    middle = len(flat) // 2
    parts = [
        find_nonzeros(flat[:middle], mask[:middle], first_token=0),
        find_nonzeros(flat[middle:], mask[middle:], first_token=middle),
    ]
    outliers = torch.nonzero(~mask).view(-1)
    target.add_batch(Encoded(parts, outliers), first_context=first, n_contexts=end - first)


def in_one(acts, scored):
    whole = accumulator()
    feed(whole, acts, scored, 0, N_CONTEXTS)
    return whole.state()


def assert_same(first, second) -> None:
    """Equal states; sampled non-zeros may come in another order."""
    for name, one in state_arrays(first).items():
        other = state_arrays(second)[name]
        assert one.dtype == other.dtype, name
        if not name.startswith(("random", "firing")):
            np.testing.assert_array_equal(one, other, err_msg=name)
    rows = [random_contexts(state.random, DRAWN[:4], d_sae=D_SAE) for state in (first, second)]
    for field in ("row_offsets", "context_index", "nnz_offsets", "positions", "values"):
        np.testing.assert_array_equal(getattr(rows[0], field), getattr(rows[1], field))
    firing = [
        sorted(zip(*(column.tolist() for column in state.firing[:3]), strict=True))
        for state in (first, second)
    ]
    assert firing[0] == firing[1]


cuts = st.lists(st.integers(1, N_CONTEXTS - 1), max_size=12, unique=True).map(sorted)


@settings(max_examples=40, deadline=None)
@given(cuts=cuts, seed=st.integers(0, 3))
def test_batches_of_any_size_give_the_state_of_one_pass(cuts, seed):
    acts, scored = activations(seed)
    batched = accumulator()
    for first, end in zip([0, *cuts], [*cuts, N_CONTEXTS], strict=True):
        feed(batched, acts, scored, first, end)
    assert_same(batched.state(), in_one(acts, scored))


@settings(max_examples=40, deadline=None)
@given(cuts=cuts, order=st.randoms(use_true_random=False))
def test_shards_merged_in_any_order_give_the_state_of_one_pass(cuts, order):
    acts, scored = activations()
    shards = []
    for first, end in zip([0, *cuts], [*cuts, N_CONTEXTS], strict=True):
        shard = accumulator()
        feed(shard, acts, scored, first, end)
        shards.append(state_from_arrays(state_arrays(shard.state())))
    order.shuffle(shards)
    merged = accumulator()
    for shard in shards:
        merged.add_state(shard)
    assert_same(merged.state(), in_one(acts, scored))


@pytest.mark.parametrize("seed", range(3))
def test_rows_bands_and_counts_are_those_of_brute_force(seed):
    acts, scored = activations(seed)
    state = in_one(acts, scored)
    acts = acts * scored[..., None]
    rows = kept_contexts(state.rows, LIMITS, n_per_band=2, d_sae=D_SAE)
    sums = from_limbs(state.counters.sum_high.numpy(), state.counters.sum_low.numpy())
    for feature in range(D_SAE):
        here = slice(rows.row_offsets[feature], rows.row_offsets[feature + 1])
        expected = dense.kept(
            acts[:, :, feature].max(axis=1), feature, n_top=3, n_sampled=8, n_per_band=2, seed=5
        )
        found = list(zip(rows.band[here].tolist(), rows.context_index[here].tolist(), strict=True))
        assert found == expected
        for row in range(here.start, here.stop):
            entry = slice(rows.nnz_offsets[row], rows.nnz_offsets[row + 1])
            line = np.zeros(SIZE, np.float32)
            line[rows.positions[entry]] = rows.values[entry]
            np.testing.assert_array_equal(line, acts[rows.context_index[row], :, feature])
        values = acts[:, :, feature][acts[:, :, feature] > 0]
        exponent, counts = dense.histogram(values)
        assert state.counters.n_active[feature] == len(values)
        assert state.counters.n_contexts[feature] == (acts[:, :, feature] > 0).any(axis=1).sum()
        assert state.counters.histogram[feature].tolist() == counts
        if len(values):
            assert state.counters.exponent[feature] == exponent
        assert sums[feature] == pytest.approx(values.astype(np.float64).sum(), rel=1e-12)


def test_random_contexts_hold_every_feature_also_where_it_is_silent():
    acts, scored = activations()
    state = in_one(acts, scored)
    acts = acts * scored[..., None]
    drawn = dense.draw(5, N_CONTEXTS, 4)
    assert DRAWN[:4].tolist() == drawn
    rows = random_contexts(state.random, DRAWN[:4], d_sae=D_SAE)
    assert (rows.band == Band.RANDOM).all()
    for feature in range(D_SAE):
        here = slice(rows.row_offsets[feature], rows.row_offsets[feature + 1])
        peak = acts[:, :, feature].max(axis=1)
        assert rows.context_index[here].tolist() == sorted(drawn, key=lambda c: (-peak[c], c))
        for row in range(here.start, here.stop):
            entry = slice(rows.nnz_offsets[row], rows.nnz_offsets[row + 1])
            line = np.zeros(SIZE, np.float32)
            line[rows.positions[entry]] = rows.values[entry]
            np.testing.assert_array_equal(line, acts[rows.context_index[row], :, feature])
