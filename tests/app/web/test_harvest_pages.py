"""A harvest is deleted after a question, at once or beside the page when it takes long."""

from app.services.harvest import deletion as harvest_deletion
from app.web.harvest_form import from_post, from_preset
from core.db.session import SessionScope
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.jobs import wait_for


def test_a_harvest_is_deleted_after_a_question(client, sample, scope: SessionScope):
    asked = client.get(f"/harvests/{sample.harvest_id}/delete")
    assert asked.status_code == 200
    assert f"/harvests/{sample.harvest_id}/delete" in asked.text
    assert client.get(f"/{sample.model_id}/{sample.sae_id}/0").status_code == 200

    # with no patience at all the deletion goes on beside, and still ends
    assert harvest_deletion.delete_soon(scope, sample.harvest_id, patience=0.0) in (True, False)
    wait_for(
        lambda: client.get(f"/harvests/{sample.harvest_id}/delete").status_code == 404,
        what="the deletion",
    )
    again = client.post(f"/harvests/{sample.harvest_id}/delete", follow_redirects=False)
    assert again.status_code == 404
    assert client.get(f"/{sample.model_id}").status_code == 200  # the model stays


def test_an_sae_says_how_many_tokens_were_left_out(client, scope: SessionScope):
    with scope() as session:
        sample = publish_sample(session, seed=5, n_outliers=3)
    base = f"/{MODEL_ID}/{SAE_ID}"
    assert "3 outlier tokens" in client.get(base).text
    found = client.get(f"/api/v1/models/{MODEL_ID}/saes/{SAE_ID}").json()
    assert found["harvest"]["n_scored"] - found["n_scored"] == 3
    assert found["max_norm"] == 50.5
    client.post(f"/harvests/{sample.harvest_id}/delete")


def test_an_emptied_limit_lets_all_tokens_count():
    form = from_preset("demo")
    assert form.text("max_norm_multiple") == "10"
    assert form.values()["max_norm_multiple"] == "10"
    emptied = from_post([*form.typed.items(), ("max_norm_multiple", " ")])
    assert emptied.values()["max_norm_multiple"] is None
    assert "max_norm_multiple" not in from_post([("model_id", "m")]).values()


def test_the_page_leads_back_to_the_model(client, scope: SessionScope):
    with scope() as session:
        harvest_id = publish_sample(session).harvest_id
    done = client.post(f"/harvests/{harvest_id}/delete", follow_redirects=False)
    assert (done.status_code, done.headers["location"].count("/")) == (303, 1)
