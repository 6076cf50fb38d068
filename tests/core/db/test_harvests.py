"""A harvest is published whole or not at all, once, and goes with all it holds."""

import threading
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select, table

from core.db.repositories import catalog, feature_pages, harvests
from core.domain.ids import FeatureId
from core.errors import Conflict, NotFound
from tests.support.builders import (
    MODEL_ID,
    SAE_ID,
    make_contexts,
    make_sae_harvest,
    make_spec,
    publish_sample,
    save_sample_model,
    save_sample_sae,
)

TABLES = ("harvest", "harvest_sae", "feature", "feature_evidence", "context")


def counts(session):
    """Rows of each table."""
    return {
        name: session.execute(select(func.count()).select_from(table(name))).scalar()
        for name in TABLES
    }


def test_a_harvest_is_found_by_what_decides_its_result(session):
    assert harvests.find_finished(session, "spec-0") is None
    sample = publish_sample(session, job_id=None)
    assert harvests.find_finished(session, "spec-0") == sample.harvest_id
    (info,) = harvests.list_harvests(session)
    assert (info.harvest_id, info.model_id, info.model_revision) == (
        sample.harvest_id,
        MODEL_ID,
        "weights-1",
    )
    assert (info.corpus_name, info.corpus_hash, info.n_scored) == (
        "sample.jsonl",
        "corpus-1",
        sample.saes[0].n_scored,
    )
    assert info.finished_at is not None
    assert info.finished_at.utcoffset() == timedelta(0)
    assert harvests.get_spec(session, sample.harvest_id) == make_spec()


def test_harvests_are_listed_newest_first_and_by_model(session):
    first = publish_sample(session, seed=1)
    second = publish_sample(session, seed=2)
    found = [info.harvest_id for info in harvests.list_harvests(session, model_id=MODEL_ID)]
    assert found == [second.harvest_id, first.harvest_id]
    assert harvests.list_harvests(session, model_id="another") == ()


def test_a_second_harvest_of_the_same_spec_is_a_conflict_and_leaves_the_first(session):
    publish_sample(session)
    before = counts(session)
    with pytest.raises(Conflict, match="there already"):
        publish_sample(session)
    assert counts(session) == before


def test_of_two_that_publish_at_once_one_wins(session_scope):
    outcomes = []
    both = threading.Barrier(2)

    def run():
        try:
            with session_scope() as session:
                both.wait()
                publish_sample(session)
            outcomes.append("published")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict", "published"]
    with session_scope() as session:
        assert counts(session)["feature"] == 24


def test_a_failure_half_way_leaves_nothing(session_scope):
    with pytest.raises(ZeroDivisionError), session_scope() as session:
        publish_broken(session)
    with session_scope() as session:
        assert set(counts(session).values()) == {0}
        assert catalog.list_models(session) == ()


def publish_broken(session):
    """Publish one SAE, then fail on the second."""
    rng = np.random.default_rng(0)
    harvest, contexts = make_sae_harvest(rng)
    model_pk, sae_pk = save_sample_model(session), save_sample_sae(session)

    def one_by_one():
        yield sae_pk, harvest
        raise ZeroDivisionError

    harvests.publish(
        session,
        job_id=7,
        model_pk=model_pk,
        spec=make_spec(),
        spec_hash="broken",
        corpus_hash="corpus",
        n_contexts=40,
        n_tokens=600,
        n_scored=500,
        contexts=contexts,
        saes=one_by_one(),
    )


def test_saes_are_read_one_at_a_time(session):
    rng = np.random.default_rng(0)
    contexts = make_contexts(rng)
    made = []

    def one_by_one():
        for name in ("0-first", "1-second"):
            made.append(name)
            sae_pk = save_sample_sae(session, sae_id=name)
            n_stored = counts(session)["feature"]
            assert n_stored == 24 * (len(made) - 1)
            yield sae_pk, make_sae_harvest(rng, contexts=contexts)[0]

    harvests.publish(
        session,
        job_id=None,
        model_pk=save_sample_model(session),
        spec=make_spec(saes=("0-first", "1-second")),
        spec_hash="lazy",
        corpus_hash="corpus",
        n_contexts=40,
        n_tokens=600,
        n_scored=500,
        contexts=contexts,
        saes=one_by_one(),
    )
    assert counts(session)["feature"] == 48


def test_deleting_removes_all_of_one_harvest_and_nothing_of_another(session):
    kept = publish_sample(session, seed=1, saes=(SAE_ID, "0-other"))
    before = counts(session)
    gone = publish_sample(session, seed=2, saes=(SAE_ID, "0-other"))
    harvests.delete(session, gone.harvest_id)
    assert counts(session) == before
    feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)
    page = feature_pages.feature_page(session, feature=feature)
    assert page.harvest.harvest_id == kept.harvest_id
    with pytest.raises(NotFound, match=f"No harvest {gone.harvest_id}"):
        harvests.delete(session, gone.harvest_id)
    with pytest.raises(NotFound):
        harvests.get_spec(session, gone.harvest_id)


def page(session, **options):
    """The page of feature 0."""
    feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)
    return feature_pages.feature_page(session, feature=feature, **options)


def test_a_feature_is_read_from_the_newest_harvest_or_from_the_named_one(session):
    old = publish_sample(session, seed=1)
    new = publish_sample(session, seed=2, revision="weights-2")
    assert page(session).harvest.harvest_id == new.harvest_id
    assert page(session).harvest.model_revision == "weights-2"
    named = page(session, harvest_id=old.harvest_id)
    assert named.stats.n_active == old.saes[0].n_active[0]
    assert [h.harvest_id for h in named.other_harvests] == [new.harvest_id]
    with pytest.raises(NotFound, match="does not hold"):
        page(session, harvest_id=new.harvest_id + 1)
