"""Features for a constraint set are found by words of labels before explanations."""

import pytest

from app.services.align import finder
from app.services.labels import labels
from core.domain.explanation import ExplanationMethod
from core.domain.ids import FeatureId
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.explained import add_explanation


def feature(index: int) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


@pytest.fixture
def said(session):
    """Labels on 7 and 3, explanations on 3 and 5, all of apologies."""
    publish_sample(session)
    labels.save(session, feature(7), name="apologies", tags=["tone"], version=0)
    labels.save(session, feature(3), name="x", note="polite apologies", tags=["tone"], version=0)
    for index in (3, 5):
        add_explanation(
            session, feature(index), text="apologies of any kind", method=ExplanationMethod.HUMAN
        )
    return session


def test_labels_come_before_explanations_and_each_feature_once(said):
    found = finder.by_words(said, "apologies", model_id=MODEL_ID, sae_id=SAE_ID, limit=20)
    assert found == (3, 7, 5)
    assert finder.by_words(said, "apologies", model_id=MODEL_ID, sae_id=SAE_ID, limit=2) == (3, 7)
