"""Tags mean the features that bear them."""

import pytest

from app.services.labels import labels, tags
from core.domain.ids import FeatureId
from core.errors import Invalid
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample


def feature(index: int) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


def test_a_tag_means_every_feature_that_bears_it(session):
    publish_sample(session)
    labels.save(session, feature(7), name="apologies", tags=["tone"], version=0)
    labels.save(session, feature(3), name="x", note="polite apologies", tags=["tone"], version=0)
    assert tags.bearers(session, "tone", model_id=MODEL_ID, sae_id=SAE_ID) == (3, 7)
    with pytest.raises(Invalid, match="bears the tag 'never'"):
        tags.bearers(session, "never", model_id=MODEL_ID, sae_id=SAE_ID)
    with pytest.raises(Invalid, match="Choose a tag"):
        tags.bearers(session, "", model_id=MODEL_ID, sae_id=SAE_ID)
