"""How many features of an SAE people and models have said something of."""

from core.db.repositories import explained, labels
from core.domain.explanation import ExplanationMethod
from core.domain.ids import FeatureId
from core.domain.label import LabelText
from core.domain.views import SaidCounts
from tests.support.explained import add_explanation


def feature(index: int, sae_id: str = "1-x") -> FeatureId:
    return FeatureId(model_id="m", sae_id=sae_id, index=index)


def test_a_feature_counts_once_and_a_tag_is_no_name(session):
    assert explained.count_said(session) == {}
    for index in (1, 1, 2):
        add_explanation(session, feature(index), text="words", method=ExplanationMethod.HUMAN)
    labels.put(session, feature(2), LabelText(name="tone"), author="Ann", version=0)
    labels.put(session, feature(3), LabelText(tags=("tone",)), author="Ann", version=0)
    labels.put(session, feature(7, "2-y"), LabelText(name="tone"), author="Ann", version=0)
    assert explained.count_said(session) == {
        ("m", "1-x"): SaidCounts(n_explained=2, n_named=1),
        ("m", "2-y"): SaidCounts(n_named=1),
    }
