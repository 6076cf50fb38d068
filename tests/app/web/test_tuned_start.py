"""Runs that start from a fine-tuned model: their features are known where the SAE is."""

import csv
import io
import re

import pytest

from app.services.features import catalog
from app.services.labels import labels
from core.db.repositories import drift_features, homes
from core.domain.ids import FeatureId
from core.domain.sae import SaeKind, SaeSource
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.told_drifts import publish_drift
from tests.support.told_runs import told_run

TUNED = "tuned-by-us"
SOURCE = SaeSource(kind=SaeKind.FOLDER, location=f"/saes/{SAE_ID}")
FEATURE = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)


@pytest.fixture(scope="module")
def told(scope):
    """A run of the sample's model with a drift, then one that started from a tuned model."""
    with scope() as session:
        publish_sample(session)
    constraint = [{"sae_id": SAE_ID, "source": SOURCE.model_dump(mode="json")}]
    with scope() as session:
        harvest_id = catalog.list_harvests(session)[0].harvest_id
        own = told_run(session, "fpo", constraint=constraint)
        tuned = told_run(session, "fpo", model_id=TUNED, constraint=constraint)
        publish_drift(session, run_job_id=own, harvest_id=harvest_id)
        publish_drift(session, run_job_id=tuned, harvest_id=None, model_id=TUNED)
        labels.save(session, FEATURE, name="apologies", version=None)
    return {"own": own, "tuned": tuned}


def test_an_sae_belongs_to_its_own_model_else_to_one_with_its_weights(scope, told):
    revision = f"sha-{SAE_ID}"
    with scope() as session:
        for model_id, sae_id, sha, home in (
            (MODEL_ID, SAE_ID, "other", MODEL_ID),
            (TUNED, SAE_ID, revision, MODEL_ID),
            (TUNED, SAE_ID, "other", TUNED),
            (TUNED, "other", revision, TUNED),
        ):
            assert homes.home_of(session, model_id=model_id, sae_id=sae_id, revision=sha) == home
        elsewhere = SaeSource(kind=SaeKind.FOLDER, location="/elsewhere")
        saes = {SAE_ID: SOURCE, "other": SOURCE}
        assert homes.homes_by_source(session, model_id=TUNED, saes=saes) == {
            SAE_ID: MODEL_ID,
            "other": TUNED,
        }
        found = homes.homes_by_source(session, model_id=TUNED, saes={SAE_ID: elsewhere})
        assert found == {SAE_ID: TUNED}


def test_its_page_names_and_links_the_features(client, told):
    text = client.get(f"/align/{told['tuned']}").text
    row = text[text.index('id="moved-most"') :]
    assert f'href="/{MODEL_ID}/{SAE_ID}/0"' in row
    assert "apologies" in row
    assert f'href="/{TUNED}' not in text
    assert f"<dd>{TUNED}</dd>" in text


def test_what_it_moved_is_named_linked_filtered_and_written(client, told):
    path = f"/align/{told['tuned']}/moved"
    text = client.get(path).text
    assert f'href="/{MODEL_ID}/{SAE_ID}/0?run={told["tuned"]}' in text
    assert f'value="{MODEL_ID}/{SAE_ID}/0"' in text
    assert "apologies" in text
    named = client.get(f"{path}?words=apologies").text
    assert re.findall(rf'href="/{MODEL_ID}/{SAE_ID}/(\d+)\?', named) == ["0"]
    rows = list(csv.DictReader(io.StringIO(client.get(f"{path}.csv?words=apologies").text)))
    assert [(row["feature"], row["label"]) for row in rows] == [(str(FEATURE), "apologies")]
    told_rows = client.get(f"/api/v1/alignments/{told['tuned']}/drift/features").json()
    assert told_rows["features_of"] == MODEL_ID


def test_its_features_lead_back_to_it_and_say_what_it_started_from(client, told, scope):
    with scope() as session:
        found = drift_features.of_feature(session, FEATURE)
    assert [(d.run_job_id, d.model_id) for d in found] == [
        (told["tuned"], TUNED),
        (told["own"], MODEL_ID),
    ]
    page = f"/{MODEL_ID}/{SAE_ID}/0"
    assert f'href="/align/{told["own"]}/moved' in client.get(page).text  # it has contexts
    tuned = client.get(f"{page}?run={told['tuned']}&show=delta")
    assert tuned.status_code == 200
    assert f'href="/align/{told["tuned"]}/moved' in tuned.text
    assert f"of {TUNED}" in tuned.text
    body = client.get(f"/api/v1/models/{MODEL_ID}/saes/{SAE_ID}/features/0/drifts").json()
    assert [one["model_id"] for one in body["drifts"]] == [TUNED, MODEL_ID]


def test_its_features_are_held_in_a_further_run(client, told):
    feature = f"{MODEL_ID}/{SAE_ID}/0"
    form = client.get(f"/align/new?from={told['tuned']}&feature={feature}&treat=held").text
    assert ">0</textarea>" in form
