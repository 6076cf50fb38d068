"""A published harvest reads back as it was written, bit for bit; lists lose and repeat nothing."""

import numpy as np
import pytest

from core.db.repositories import feature_pages, features
from core.db.session import session_scope
from core.domain.activation import Band
from core.domain.ids import FeatureId
from core.domain.views import FeatureCard, FeatureQuery, FeatureSort
from core.errors import Invalid, NotFound
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.database import empty, rolled_back


@pytest.fixture(scope="module")
def sample(engine):
    """A sample that tests read and none changes."""
    with session_scope(engine)() as session:
        found = publish_sample(session)
    yield found
    empty(engine)


@pytest.fixture
def reader(engine, sample):
    """A session that sees the sample."""
    with rolled_back(engine) as session:
        yield session


def page(session, index, **options):
    """One feature's page."""
    feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)
    return feature_pages.feature_page(session, feature=feature, **options)


def every_page(session, query):
    """All cards of a list, page by page, and the number that it promises."""
    cards: list[FeatureCard] = []
    counts = set()
    while True:
        found = features.list_features(session, model_id=MODEL_ID, sae_id=SAE_ID, query=query)
        cards += found.cards
        counts.add(found.n_matching)
        if found.next_after is None:
            (n_matching,) = counts
            return cards, n_matching
        query = FeatureQuery(**{**query_fields(query), "after": found.next_after})


def query_fields(query):
    """A query's fields by name."""
    return {name: getattr(query, name) for name in query.__slots__}


def assert_same_rows(contexts, rows, feature, stored):
    """Contexts are the rows of a feature with the stored tokens, bit for bit."""
    first, last = rows.row_offsets[feature : feature + 2]
    assert len(contexts) == last - first
    for row, context in zip(range(first, last), contexts, strict=True):
        number = rows.context_index[row]
        here = slice(*rows.nnz_offsets[row : row + 2])
        ids = stored.token_ids[number]
        expected = np.zeros((ids >= 0).sum(), np.float32)
        expected[rows.positions[here]] = rows.values[here]
        assert (context.context_index, context.band) == (number, rows.band[row])
        assert context.activations.tobytes() == expected.tobytes()
        assert context.token_ids.tolist() == ids[ids >= 0].tolist()
        assert context.source == stored.sources[stored.source_index[number]]
        assert (context.document, context.start) == (
            stored.document[number],
            stored.start[number],
        )


def test_every_feature_reads_back_bit_for_bit(sample, reader):
    (harvest,) = sample.saes
    for index in range(24):
        found = page(reader, index, include_random=True)
        n_kept = np.diff(harvest.contexts.row_offsets)[index]
        assert_same_rows(found.contexts[:n_kept], harvest.contexts, index, sample.contexts)
        assert_same_rows(found.contexts[n_kept:], harvest.random, index, sample.contexts)
        assert found.histogram.counts.tolist() == harvest.histogram[index].tolist()
        assert found.histogram.exponent == harvest.histogram_exponent[index]
        stats = found.stats
        assert stats.max_activation == float(harvest.max_activation[index])
        assert stats.n_active == harvest.n_active[index]
        assert stats.n_contexts == harvest.n_contexts[index]
        assert stats.density == harvest.n_active[index] / harvest.n_scored
        if not stats.dead:
            assert stats.mean_activation == harvest.sum_activation[index] / stats.n_active
        logits = harvest.logit_effect
        assert [(w.token_id, w.value) for w in found.promoted] == list(
            zip(logits.top_ids[index].tolist(), logits.top_values[index].tolist(), strict=True)
        )
        assert [w.value for w in found.suppressed] == logits.bottom_values[index].tolist()


def test_neighbours_carry_their_own_statistics_and_empty_places_are_left_out(sample, reader):
    (harvest,) = sample.saes
    cards, _ = every_page(reader, FeatureQuery())
    stats = [card.stats for card in cards]
    for index in range(24):
        found = page(reader, index)
        kept = harvest.coactivation.index[index] >= 0
        assert [n.index for n in found.coactivation] == harvest.coactivation.index[index][
            kept
        ].tolist()
        assert [n.support for n in found.coactivation] == harvest.coactivation_support[index][
            kept
        ].tolist()
        assert {n.support for n in found.decoder_cosine} == {None}
        for neighbour in (*found.coactivation, *found.decoder_cosine):
            assert neighbour.stats == stats[neighbour.index]
            assert neighbour.peak_token == harvest.peak_token[neighbour.index]


def test_a_page_shows_bands_in_order_and_random_contexts_only_on_request(reader):
    found = page(reader, 0)
    bands = [context.band for context in found.contexts]
    assert bands == sorted(bands)
    assert Band.RANDOM not in bands
    assert found.band_counts == {
        Band.TOP: 4,
        Band.Q75_100: 2,
        Band.Q50_75: 2,
        Band.Q25_50: 2,
        Band.Q0_25: 2,
        Band.RANDOM: 6,
    }
    with_random = page(reader, 0, include_random=True)
    assert with_random.contexts[:12] != ()
    assert [c.band for c in with_random.contexts[12:]] == [Band.RANDOM] * 6


def test_ranks_are_the_share_of_living_features_that_are_exceeded(sample, reader):
    (harvest,) = sample.saes
    living = harvest.n_active > 0
    for index in (0, 1, 3, 23):
        ranks = page(reader, index).ranks
        smaller = (harvest.n_active < harvest.n_active[index]) & living
        assert ranks.density == smaller.sum() / living.sum()
        smaller = (harvest.max_activation < harvest.max_activation[index]) & living
        assert ranks.max_activation == smaller.sum() / living.sum()


def test_many_pages_at_once_are_those_read_one_by_one(sample, reader):
    n = len(sample.saes[0].n_active)
    found = feature_pages.feature_pages(
        reader, model_id=MODEL_ID, sae_id=SAE_ID, indices=[*range(n), n, -1]
    )
    assert [one.stats.index for one in found] == list(range(n))
    with np.printoptions(threshold=10**6, floatmode="unique"):
        for index, one in enumerate(found):
            assert repr(one) == repr(page(reader, index))


def test_the_ends_have_no_neighbour_by_index(reader):
    assert (page(reader, 0).previous_index, page(reader, 0).next_index) == (None, 1)
    assert (page(reader, 23).previous_index, page(reader, 23).next_index) == (22, None)


def test_a_dead_feature_has_a_page_and_a_card_without_contexts(reader):
    found = page(reader, 3)
    assert found.stats.dead
    assert (found.stats.max_activation, found.stats.mean_activation) == (0.0, 0.0)
    assert found.contexts == ()
    dead = features.list_features(
        reader, model_id=MODEL_ID, sae_id=SAE_ID, query=FeatureQuery(dead=True)
    )
    assert [card.stats.index for card in dead.cards] == [3, 8, 13, 18, 23]
    assert {(card.preview, card.peak_token) for card in dead.cards} == {(None, -1)}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", list(FeatureSort))
@pytest.mark.parametrize("limit", [1, 5, 24, 50])
def test_pages_together_are_the_sorted_list_with_equals_by_index(
    sample, reader, sort, descending, limit
):
    (harvest,) = sample.saes
    n = harvest.n_active
    mean = np.divide(harvest.sum_activation, n, out=np.zeros(24), where=n > 0)
    values = {
        FeatureSort.INDEX: np.arange(24),
        FeatureSort.DENSITY: n,
        FeatureSort.MAX_ACTIVATION: harvest.max_activation,
        FeatureSort.MEAN_ACTIVATION: mean,
    }[sort]
    expected = np.lexsort((np.arange(24), -values if descending else values)).tolist()
    cards, n_matching = every_page(
        reader, FeatureQuery(sort=sort, descending=descending, limit=limit)
    )
    assert [card.stats.index for card in cards] == expected
    assert n_matching == 24


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", list(FeatureSort))
@pytest.mark.parametrize("limit", [1, 5, 24])
def test_going_back_shows_the_pages_that_were_seen(reader, sort, descending, limit):
    def read(after):
        query = FeatureQuery(sort=sort, descending=descending, limit=limit, after=after)
        found = features.list_features(reader, model_id=MODEL_ID, sae_id=SAE_ID, query=query)
        shown = [card.stats.index for card in found.cards]
        return shown, found.previous_after, found.next_after

    seen = [read(None)]
    while (after := seen[-1][2]) is not None:
        seen.append(read(after))
    assert [before is None for _, before, _ in seen] == [True, *[False] * (len(seen) - 1)]
    found = seen.pop()
    while seen:
        found = read(found[1])
        assert found == seen.pop()


def test_a_page_before_a_row_near_the_beginning_is_the_first_page(reader):
    query = FeatureQuery(limit=5, after="before_3")
    found = features.list_features(reader, model_id=MODEL_ID, sae_id=SAE_ID, query=query)
    assert [card.stats.index for card in found.cards] == [0, 1, 2, 3, 4]
    assert (found.previous_after, found.next_after) == (None, "4")


def test_a_card_shows_the_top_context_and_what_is_promoted(sample, reader):
    cards, _ = every_page(reader, FeatureQuery(dead=False))
    for card in cards:
        assert card.preview is not None
        whole = page(reader, card.stats.index)
        assert card.preview.context_index == whole.contexts[0].context_index
        assert card.preview.activations.tobytes() == whole.contexts[0].activations.tobytes()
        assert card.preview.activations.max() == np.float32(card.stats.max_activation)
        assert card.promoted == tuple(w.token_id for w in whole.promoted)


def test_filters_keep_their_bounds(sample, reader):
    (harvest,) = sample.saes
    density = harvest.n_active / harvest.n_scored
    edge = float(density[10])
    kept, n_matching = every_page(
        reader, FeatureQuery(min_density=edge, sort=FeatureSort.DENSITY, limit=3)
    )
    assert {card.stats.index for card in kept} == set(np.flatnonzero(density >= edge).tolist())
    assert n_matching == len(kept)
    most = float(harvest.max_activation[1])
    kept, _ = every_page(reader, FeatureQuery(max_activation=most, dead=False))
    found = set(np.flatnonzero((harvest.max_activation <= most) & (density > 0)).tolist())
    assert {card.stats.index for card in kept} == found


@pytest.mark.parametrize(
    "after", ["", "x", "0.1", "nan_3", "inf_3", "0.1_-1", "0.1_x", "_4", "before_", "before_4"]
)
def test_a_place_that_cannot_be_read_is_refused(reader, after):
    query = FeatureQuery(sort=FeatureSort.DENSITY, after=after)
    with pytest.raises(Invalid, match="not a place"):
        features.list_features(reader, model_id=MODEL_ID, sae_id=SAE_ID, query=query)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_outside_of_what_is_allowed_is_refused(reader, limit):
    with pytest.raises(Invalid, match="limit"):
        features.list_features(
            reader, model_id=MODEL_ID, sae_id=SAE_ID, query=FeatureQuery(limit=limit)
        )


@pytest.mark.parametrize("index", [24, 10**9, 2**31, 10**20])
def test_an_index_that_is_not_there_is_not_found(reader, index):
    with pytest.raises(NotFound, match=f"no feature {index}"):
        page(reader, index)


def test_columns_for_plots_are_those_of_the_pages(reader):
    columns = features.feature_stats(reader, model_id=MODEL_ID, sae_id=SAE_ID)
    for index in range(24):
        stats = page(reader, index).stats
        assert columns.index[index] == index
        assert columns.density[index] == stats.density
        assert columns.max_activation[index] == stats.max_activation
        assert columns.mean_activation[index] == stats.mean_activation
