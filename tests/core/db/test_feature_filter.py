"""Features are found by the text of their peak token."""

import pytest

from core.db.repositories import features
from core.db.session import session_scope
from core.domain.views import FeatureQuery
from tests.support.builders import MODEL_ID, SAE_ID, TOKENS, publish_sample
from tests.support.database import empty, rolled_back


@pytest.fixture(scope="module")
def sample(engine):
    """A sample whose peaks lie on many tokens."""
    with session_scope(engine)() as session:
        found = publish_sample(session, n_features=300)
    yield found
    empty(engine)


@pytest.fixture
def reader(engine, sample):
    """A session that sees the sample."""
    with rolled_back(engine) as session:
        yield session


@pytest.mark.parametrize(
    "wanted", ["THE", "strasse", "שלום", "<script", "\n", "Café", "🙂", "%", "_"]
)
def test_the_token_filter_finds_peaks_by_text_in_any_case(sample, reader, wanted):
    (harvest,) = sample.saes
    folded = [token.decode("utf-8", errors="replace").casefold() for token in TOKENS]
    expected = [
        index
        for index, peak in enumerate(harvest.peak_token.tolist())
        if peak >= 0 and wanted.casefold() in folded[peak]
    ]
    query = FeatureQuery(token=wanted, limit=300)
    found = features.list_features(reader, model_id=MODEL_ID, sae_id=SAE_ID, query=query)
    assert [card.stats.index for card in found.cards] == expected
    assert found.n_matching == len(expected)
