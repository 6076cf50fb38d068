"""Labels of real features are written under a lock that loses nothing."""

import pytest

from app.services.labels import labels, tags
from app.services.labels.labels import LabelChanged
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, LabelQuery
from core.domain.views import FeatureQuery
from core.errors import Invalid, NotFound
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample


@pytest.fixture
def sampled(session):
    publish_sample(session)
    return session


def feature(index: int) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


def tag(session, indices, **more):
    return tags.tag_features(session, model_id=MODEL_ID, sae_id=SAE_ID, indices=indices, **more)


def test_a_label_is_written_and_says_who_wrote_it(sampled):
    found = labels.save(
        sampled, feature(3), name=" rivers ", tags=["Water"], author="Ann", version=0
    )
    assert (found.text.name, found.text.tags, found.author) == ("rivers", ("water",), "Ann")
    assert labels.save(sampled, feature(4), name="x", version=0).author == "somebody"


def test_the_same_text_again_changes_nothing(sampled):
    labels.save(sampled, feature(3), name="rivers", version=0)
    assert labels.save(sampled, feature(3), name="rivers ", version=1).version == 1


def test_who_comes_late_is_given_both_texts(sampled):
    labels.save(sampled, feature(3), name="rivers", tags=["water"], author="Ann", version=0)
    with pytest.raises(LabelChanged) as caught:
        labels.save(sampled, feature(3), name="lakes", author="Bo", version=0)
    assert caught.value.present.text.name == "rivers"
    assert caught.value.wanted.name == "lakes"
    assert [p.path for p in caught.value.problems] == ["body.name", "body.note", "body.tags"]
    assert "'rivers'" in caught.value.problems[0].message
    assert "Ann" in caught.value.message


def test_a_deleted_label_can_be_read_in_its_history(sampled):
    labels.save(sampled, feature(3), name="rivers", tags=["water"], version=0)
    gone = labels.delete(sampled, feature(3), author="Bo", version=1)
    assert (gone.text.empty, gone.version) == (True, 2)
    first, second = labels.history(sampled, feature(3))
    assert (first.kind, second.text.name) == (ChangeKind.DELETE, "rivers")
    with pytest.raises(NotFound, match="no label"):
        labels.delete(sampled, feature(3), version=2)
    indices = {3}
    assert labels.of_features(sampled, model_id=MODEL_ID, sae_id=SAE_ID, indices=indices) == {}


def test_only_features_that_there_are_can_be_labelled(sampled):
    with pytest.raises(NotFound, match="0 to 23"):
        labels.save(sampled, feature(24), name="x", version=0)
    with pytest.raises(NotFound, match="0 to 23"):
        tag(sampled, [3, 24], add=["x"])
    with pytest.raises(NotFound):
        labels.get_label(sampled, FeatureId(model_id="m", sae_id="s", index=0))


def test_many_features_are_tagged_at_once(sampled):
    found = tag(sampled, [3, 5, 3], add=["Made up"], author="Ann")
    assert (found.n_chosen, found.n_changed) == (2, 2)
    found = tag(sampled, [3, 5, 7], add=["made-up"], remove=["other"])
    assert (found.n_chosen, found.n_changed) == (3, 1)
    (card,) = tags.list_tags(sampled)
    assert (card.name, card.n_features) == ("made-up", 3)
    bearing = tags.tagged(sampled, LabelQuery(tag="made-up"))
    assert [label.feature.index for label in bearing] == [3, 5, 7]


def test_all_that_match_a_filter_are_tagged(sampled):
    def matching(query: FeatureQuery) -> tuple[int, ...]:
        return tags.matching(
            sampled, model_id=MODEL_ID, sae_id=SAE_ID, harvest_id=None, query=query
        )

    dead = matching(FeatureQuery(dead=True, limit=1))
    assert len(dead) > 1
    assert tag(sampled, dead, add=["dead"]).n_changed == len(dead)
    assert matching(FeatureQuery(tags=("dead",))) == dead


@pytest.mark.parametrize(
    ("indices", "more"),
    [
        ([3], {}),
        ([], {"add": ["x"]}),
        ([3], {"add": ["x"], "remove": ["X"]}),
        ([3], {"add": ["!"]}),
    ],
)
def test_tagging_without_tag_or_features_is_refused(sampled, indices, more):
    with pytest.raises(Invalid):
        tag(sampled, indices, **more)


def test_tags_are_renamed_merged_and_deleted_in_their_one_spelling(sampled):
    tag(sampled, [3], add=["a"])
    tag(sampled, [5], add=["b"])
    assert tags.rename(sampled, "a", "A new").name == "a-new"
    assert tags.rename(sampled, "a-new", "a-new").name == "a-new"
    assert tags.merge(sampled, "a-new", "B").n_features == 2
    with pytest.raises(Invalid, match="itself"):
        tags.merge(sampled, "b", "b")
    assert tags.delete(sampled, "b") == 2
    with pytest.raises(NotFound):
        tags.get_tag(sampled, "b")
