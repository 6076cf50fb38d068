"""Models and SAEs are stored once, by their exact weights."""

import dataclasses

import pytest

from core.db.repositories import catalog, feature_pages, features
from core.domain.ids import FeatureId
from core.domain.sae import SaeInfo, SaeKind, SaeSource
from core.domain.views import FeatureQuery
from core.errors import Invalid, NotFound
from tests.support.builders import (
    MODEL_ID,
    SAE_ID,
    byte_vocabulary,
    publish_sample,
    save_sample_model,
    save_sample_sae,
)


def test_the_same_weights_are_the_same_model(session):
    assert save_sample_model(session) == save_sample_model(session)
    assert save_sample_model(session, revision="weights-2") != save_sample_model(session)


def test_a_vocabulary_comes_back_byte_for_byte(session):
    save_sample_model(session)
    assert catalog.get_vocabulary(session, model_id=MODEL_ID) == byte_vocabulary()
    named = catalog.get_vocabulary(session, model_id=MODEL_ID, revision="weights-1")
    assert named == byte_vocabulary()
    with pytest.raises(NotFound, match="revision weights-9"):
        catalog.get_vocabulary(session, model_id=MODEL_ID, revision="weights-9")


def test_the_same_sae_is_stored_once_and_a_new_record_replaces_the_old(session):
    save_sample_model(session)
    first = save_sample_sae(session)
    info = SaeInfo(
        hook_name="blocks.1.hook_resid_post",
        layer=1,
        d_in=16,
        d_sae=24,
        architecture="jumprelu",
        normalize_activations="none",
        revision=f"sha-{SAE_ID}",
    )
    hub = SaeSource(kind=SaeKind.HUB, location="release", release_id="layer_1/canonical")
    for record, expected in (({}, 6.5), ({"l0": 7.0}, 7.0)):
        again = catalog.save_sae(
            session, model_id=MODEL_ID, sae_id=SAE_ID, source=hub, info=info, record=record
        )
        assert again == first
        card = catalog.get_sae(session, model_id=MODEL_ID, sae_id=SAE_ID)
        assert card.record["l0"] == expected
        assert card.source == "release/layer_1/canonical"
    changed = dataclasses.replace(info, revision="sha-other")
    other = catalog.save_sae(
        session, model_id=MODEL_ID, sae_id=SAE_ID, source=hub, info=changed, record={}
    )
    assert other != first


def test_a_model_lists_each_sae_once_by_layer_with_its_newest_harvest(session):
    publish_sample(session, seed=1, saes=(SAE_ID, "1-another"))
    new = publish_sample(session, seed=2)
    (model,) = catalog.list_models(session)
    assert catalog.get_model(session, MODEL_ID) == model
    assert [sae.sae_id for sae in model.saes] == ["1-another", SAE_ID]
    assert model.saes[1].harvest == model.harvests[0]
    assert model.harvests[0].harvest_id == new.harvest_id
    assert len(model.harvests) == 2


def test_an_sae_card_counts_dead_features_and_active_ones_a_token(session):
    (harvest,) = publish_sample(session).saes
    card = catalog.get_sae(session, model_id=MODEL_ID, sae_id=SAE_ID)
    assert (card.n_features, card.n_dead) == (24, 5)
    assert card.mean_l0 == harvest.n_active.sum() / harvest.n_scored
    assert (card.layer, card.d_sae, card.architecture) == (1, 24, "jumprelu")


def test_an_sae_card_counts_the_tokens_that_are_left_out(session):
    (harvest,) = publish_sample(session, n_outliers=3).saes
    card = catalog.get_sae(session, model_id=MODEL_ID, sae_id=SAE_ID)
    assert (card.n_scored, card.n_outliers, card.max_norm) == (harvest.n_scored, 3, 50.5)


def test_a_model_in_two_revisions_is_one_card_of_the_newest(session):
    publish_sample(session, seed=1)
    publish_sample(session, seed=2, revision="weights-2")
    (model,) = catalog.list_models(session)
    assert model.revision == "weights-2"
    assert {harvest.model_revision for harvest in model.harvests} == {"weights-1", "weights-2"}


def test_an_sae_without_a_harvest_has_a_card_but_no_features_yet(session):
    save_sample_model(session)
    save_sample_sae(session)
    card = catalog.get_sae(session, model_id=MODEL_ID, sae_id=SAE_ID)
    assert card.harvest is None
    (model,) = catalog.list_models(session)
    assert model.saes == (card,)
    with pytest.raises(NotFound, match="no finished harvest"):
        features.list_features(session, model_id=MODEL_ID, sae_id=SAE_ID, query=FeatureQuery())


def test_what_is_not_there_is_named(session):
    with pytest.raises(NotFound, match="No model 'nothing'"):
        catalog.get_model(session, "nothing")
    with pytest.raises(NotFound, match="No model 'nothing'"):
        catalog.get_sae(session, model_id="nothing", sae_id=SAE_ID)
    save_sample_model(session)
    with pytest.raises(NotFound, match=f"No SAE {MODEL_ID}/nothing"):
        catalog.get_sae(session, model_id=MODEL_ID, sae_id="nothing")
    feature = FeatureId(model_id=MODEL_ID, sae_id="nothing", index=0)
    with pytest.raises(NotFound, match="No SAE"):
        feature_pages.feature_page(session, feature=feature)


def test_an_id_that_no_address_can_hold_is_refused(session):
    with pytest.raises(Invalid, match="not an SAE id"):
        save_sample_sae(session, sae_id="a/b")
