"""Labels and tags: written with their history, found, counted, moved, and outliving harvests."""

from datetime import UTC, datetime
from threading import Barrier, Event, Thread

import pytest
from sqlalchemy import text

from core.db.repositories import features, harvests, labels, tags
from core.db.session import session_scope
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, LabelQuery, LabelRecord, LabelText
from core.domain.views import FeatureQuery
from core.errors import Conflict, NotFound
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.database import empty

# What this transaction wrote: tags of features, and states of labels without an index's entry.
_WRITTEN = text(
    "SELECT pg_stat_get_xact_tuples_inserted('label_tag'::regclass) AS tags,"
    " pg_stat_get_xact_tuples_hot_updated('label'::regclass) AS beside"
)


def feature(index: int, sae_id: str = SAE_ID) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=sae_id, index=index)


def put(session, index: int, name: str = "", *bears: str, version: int | None = None, note=""):
    said = LabelText(name=name, note=note, tags=tuple(sorted(bears)))
    return labels.put(session, feature(index), said, author="Ann", version=version)


def listed(session, **query: object) -> list[int]:
    """Indices of a feature list with these filters."""
    asked = FeatureQuery(limit=300, **query)  # type: ignore[arg-type]  # the caller knows the names
    found = features.list_features(session, model_id=MODEL_ID, sae_id=SAE_ID, query=asked)
    assert found.n_matching == len(found.cards)
    return [card.stats.index for card in found.cards]


def change(session, indices, *, add=(), remove=()) -> int:
    return tags.change(
        session,
        model_id=MODEL_ID,
        sae_id=SAE_ID,
        indices=indices,
        add=add,
        remove=remove,
        author="Bo",
    )


def test_a_feature_without_a_label_has_an_empty_one_of_version_0(session):
    found = labels.get(session, feature(3))
    assert (found.version, found.text, found.changed_at) == (0, LabelText(), None)
    assert labels.history(session, feature(3)) == ()


def test_every_change_counts_and_stays_in_the_history(session):
    put(session, 3, "rivers", "nature", "water", version=0)
    put(session, 3, "rivers and lakes", "water", version=1, note="also ponds\nand seas")
    found = put(session, 3, version=2)
    assert (found.version, found.text) == (3, LabelText())
    history = labels.history(session, feature(3))
    assert [(one.version, one.text.name, one.text.tags) for one in history] == [
        (3, "", ()),
        (2, "rivers and lakes", ("water",)),
        (1, "rivers", ("nature", "water")),
    ]
    assert history[1].text.note == "also ponds\nand seas"
    assert {one.kind for one in history} == {ChangeKind.EDIT}


def test_an_old_version_writes_nothing(session):
    put(session, 3, "rivers", version=0)
    with pytest.raises(Conflict, match="changed meanwhile"):
        put(session, 3, "lakes", version=0)
    assert labels.get(session, feature(3)).text.name == "rivers"
    assert put(session, 3, "lakes").version == 2  # no version: whatever is there


def test_of_two_people_who_write_at_once_one_is_told(engine):
    scope, start, outcomes = session_scope(engine), Barrier(2), []

    def write(name: str) -> None:
        start.wait()
        try:
            with scope() as session:
                put(session, 3, name, version=0)
        except Conflict:
            outcomes.append("conflict")
        else:
            outcomes.append("written")

    threads = [Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    empty(engine)
    assert sorted(outcomes) == ["conflict", "written"]


def test_tags_are_given_to_many_features_at_once_and_only_changes_count(session):
    put(session, 2, "two", "old")
    assert change(session, [5, 2, 9, 5], add=["new", "old"]) == 3
    assert change(session, [2, 5], add=["new"]) == 0
    assert labels.get(session, feature(2)).version == 2
    assert labels.get(session, feature(5)).text == LabelText(tags=("new", "old"))
    assert change(session, [2, 5, 100], remove=["old", "never"]) == 2
    assert labels.history(session, feature(5))[0].text.tags == ("new",)
    assert labels.history(session, feature(5))[0].kind is ChangeKind.TAGGING
    assert tags.tagged(session, "new", model_id=MODEL_ID, sae_id=SAE_ID) == (2, 5, 9)


def test_tags_are_listed_with_counts_a_model_and_an_sae(session):
    change(session, [1, 2], add=["b", "诗"])
    labels.put(
        session,
        feature(7, "other-sae"),
        LabelText(name="x", tags=("b",)),
        author="",
        version=None,
    )
    found = {card.name: card for card in tags.list_tags(session)}
    assert list(found) == ["b", "诗"]
    assert found["b"].n_features == 3
    assert [(p.sae_id, p.n_features) for p in found["b"].places] == [(SAE_ID, 2), ("other-sae", 1)]
    assert [card.name for card in tags.list_tags(session, sae_id="other-sae")] == ["b"]
    assert tags.list_tags(session, model_id="elsewhere") == ()


def test_a_renamed_tag_keeps_its_features_and_counts_as_a_change(session):
    change(session, [1, 2], add=["old"])
    tags.rename(session, "old", "new", author="Cy")
    assert [card.name for card in tags.list_tags(session)] == ["new"]
    found = labels.history(session, feature(1))[0]
    assert (found.text.tags, found.author, found.kind) == (("new",), "Cy", ChangeKind.RENAME)
    assert labels.get(session, feature(1)).version == 2
    with pytest.raises(NotFound):
        tags.rename(session, "old", "newer", author="")
    tags.rename(session, "new", "old", author="")  # a name that nothing bears is free again
    assert tags.tagged(session, "old", model_id=MODEL_ID, sae_id=SAE_ID) == (1, 2)


def test_a_name_that_another_tag_has_is_for_merging(session):
    change(session, [1, 2], add=["a"])
    change(session, [2, 3], add=["b"])
    with pytest.raises(Conflict, match="already"):
        tags.rename(session, "a", "b", author="")
    tags.merge(session, "a", "b", author="")
    assert tags.tagged(session, "b", model_id=MODEL_ID, sae_id=SAE_ID) == (1, 2, 3)
    assert [card.name for card in tags.list_tags(session)] == ["b"]
    with pytest.raises(NotFound):
        tags.merge(session, "b", "nothing", author="")


def test_the_larger_of_two_tags_is_merged_into_the_smaller_all_the_same(session):
    change(session, [1, 2, 3], add=["many"])
    change(session, [3, 4], add=["few"])
    tags.merge(session, "many", "few", author="Cy")
    assert tags.tagged(session, "few", model_id=MODEL_ID, sae_id=SAE_ID) == (1, 2, 3, 4)
    assert [card.name for card in tags.list_tags(session)] == ["few"]
    assert [labels.get(session, feature(i)).version for i in (1, 3, 4)] == [2, 3, 1]
    assert labels.history(session, feature(3))[0].text.tags == ("few",)
    change(session, [5], add=["many"])
    assert tags.tagged(session, "many", model_id=MODEL_ID, sae_id=SAE_ID) == (5,)


def test_a_tag_of_every_feature_is_renamed_by_one_row(session):
    """Within seconds: no tag of a feature is written, and states of labels beside their old ones.

    In one transaction a page has room for one more state of each of its labels: the giving's.
    """
    change(session, range(4096), add=["all"])
    given = session.execute(_WRITTEN).one()
    tags.rename(session, "all", "every", author="")
    assert session.execute(_WRITTEN).one().tags == given.tags
    assert given.beside > 0.9 * 4096
    assert tags.get_tag(session, "every").n_features == 4096
    assert labels.history(session, feature(4095))[0].text.tags == ("every",)


def test_a_name_that_somebody_is_giving_meanwhile_is_taken(engine):
    scope, given, outcomes = session_scope(engine), Event(), []
    with scope() as session:
        change(session, [1], add=["old"])
        change(session, [1], add=["new"])
        tags.remove(session, "new", author="")  # its row is left, and nobody bears it

    def give() -> None:
        with scope() as session:
            other = {"model_id": MODEL_ID, "sae_id": "other-sae"}
            tags.change(session, **other, indices=[1], add=["new"], author="")
            given.set()
            session.execute(text("SELECT pg_sleep(0.5)"))

    def rename() -> None:
        assert given.wait(10)
        with pytest.raises(Conflict), scope() as session:
            tags.rename(session, "old", "new", author="")
        outcomes.append("refused")

    threads = [Thread(target=give), Thread(target=rename)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with scope() as session:
        left = [card.name for card in tags.list_tags(session)]
    empty(engine)
    assert (outcomes, left) == (["refused"], ["new", "old"])


def test_a_deleted_tag_leaves_names_and_history(session):
    put(session, 1, "one", "gone", "kept")
    assert tags.remove(session, "gone", author="Ann") == 1
    assert labels.get(session, feature(1)).text == LabelText(name="one", tags=("kept",))
    assert labels.history(session, feature(1))[0].kind is ChangeKind.REMOVAL
    assert labels.history(session, feature(1))[1].text.tags == ("gone", "kept")


def test_labels_are_read_in_order_from_any_place(session):
    for index in (9, 1, 5):
        put(session, index, f"feature {index}", *(["odd"] if index != 5 else []))
    put(session, 4, "soon gone")
    put(session, 4)
    first = labels.list_labels(session, LabelQuery(limit=2))
    assert [one.feature.index for one in first] == [1, 5]
    rest = labels.list_labels(session, LabelQuery(limit=2, after=first[-1].feature))
    assert [one.feature.index for one in rest] == [9]
    assert [one.feature.index for one in labels.list_labels(session, LabelQuery(tag="odd"))] == [
        1,
        9,
    ]
    assert labels.list_labels(session, LabelQuery(model_id="elsewhere")) == ()


def test_a_file_s_labels_keep_their_time(session):
    then = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    record = LabelRecord(
        feature=feature(1), text=LabelText(name="x", tags=("t",)), author="Di", changed_at=then
    )
    labels.write(session, [record], kind=ChangeKind.IMPORT)
    found = labels.get(session, feature(1))
    assert (found.changed_at, found.author, found.version) == (then, "Di", 1)


def test_a_feature_list_is_narrowed_by_tags_labels_and_words(session):
    publish_sample(session)
    put(session, 2, "polite apologies", "tone", "manners", note="sorry, 对不起")
    put(session, 4, "", "tone")
    assert listed(session, tags=("tone",)) == [2, 4]
    assert listed(session, tags=("tone", "manners")) == [2]
    assert listed(session, tags=("never",)) == []
    assert listed(session, labelled=True) == [2]
    assert len(listed(session, labelled=False)) == 23
    for words in ("apologies", "APOLOGIES polite", "对不", "sorry"):
        assert listed(session, words=words) == [2]
    assert listed(session, words="rude") == []


def test_labels_outlive_the_harvest(session):
    sample = publish_sample(session)
    put(session, 2, "rivers", "water", version=0)
    harvests.delete(session, sample.harvest_id)
    assert labels.get(session, feature(2)).text.name == "rivers"
    publish_sample(session)
    assert listed(session, tags=("water",)) == [2]


def test_a_whole_sae_is_tagged_and_read_within_seconds(session):
    """Rows stay narrow: a tag on each feature of an SAE costs less than 500 bytes, history too."""
    query = text(
        "SELECT pg_total_relation_size('label') + pg_total_relation_size('label_tag')"
        " + pg_total_relation_size('label_change')"
    )
    before = session.execute(query).scalar_one()
    n = 16_384
    assert change(session, range(n), add=["all"]) == n
    grown = session.execute(query).scalar_one() - before
    assert grown < 500 * n
    assert len(tags.tagged(session, "all", model_id=MODEL_ID, sae_id=SAE_ID)) == n
