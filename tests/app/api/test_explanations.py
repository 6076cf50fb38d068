"""Explanations over REST: endpoints and their keys, people's texts, previews, live, runs."""

import json
import re

import pytest

from core.db.repositories import endpoints as stored
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.explain_runs import store_endpoint
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import DEAD, NAMES, publish_planted
from tests.support.scripted_model import ScriptedModel

KEY = "sk-never-to-be-seen-0123456789"
SAE = f"/api/v1/models/{MODEL_ID}/saes/{SAE_ID}"


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


@pytest.fixture(scope="module")
def harvest_id(scope):
    with scope() as session:
        return publish_planted(session)


@pytest.fixture(scope="module")
def endpoint(client, server, harvest_id):
    settings = {"name": "scripted", "base_url": server.base_url, "model": "scripted"}
    answer = client.post("/api/v1/endpoints", json={"settings": settings, "api_key": KEY})
    assert answer.status_code == 201, answer.text
    return answer.json()["endpoint_id"]


def of(index):
    return f"{SAE}/features/{index}/explanations"


def spec(endpoint, **changes):
    return {
        "model_id": MODEL_ID,
        "sae_id": SAE_ID,
        "features": {"by": "all"},
        "explainer": {"endpoint_id": endpoint},
        "scorer": {"endpoint_id": endpoint, "kinds": ["simulation", "detection"]},
        **changes,
    }


def test_a_key_goes_in_sealed_and_never_comes_back_out(client, scope, endpoint, server):
    shown = client.get(f"/api/v1/endpoints/{endpoint}")
    assert shown.json()["key_source"] == "stored"
    listed = client.get("/api/v1/endpoints")
    tested = client.post(f"/api/v1/endpoints/{endpoint}/test")
    assert KEY not in shown.text + listed.text + tested.text
    assert server.log.headers[-1]["authorization"] == f"Bearer {KEY}"
    with scope() as session:
        sealed = stored.get_sealed_key(session, endpoint)
    assert sealed is not None
    assert KEY.encode() not in sealed


def test_a_test_of_the_connection_says_what_the_server_can_do(client, endpoint):
    found = client.post(f"/api/v1/endpoints/{endpoint}/test").json()["abilities"]
    assert found["modes"] == ["all_at_once", "one_at_a_time", "schema"]
    assert found["prompt_logprobs"] == "by_id"


def test_a_stored_key_does_not_follow_its_endpoint_to_another_address(client, endpoint):
    before = client.get(f"/api/v1/endpoints/{endpoint}").json()
    moved = {"name": before["name"], "base_url": "http://elsewhere.test/v1", "model": "x"}
    answer = client.put(f"/api/v1/endpoints/{endpoint}", json={"settings": moved})
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["path"] == "api_key"


@pytest.mark.parametrize("name", ["PATH", "SPARSIGHT_SECRET_KEY", "SPARSIGHT_X_API_KEY", "HOME"])
def test_only_variables_that_hold_api_keys_may_be_named(client, name):
    settings = {"name": "thief", "base_url": "http://a.test/v1", "model": "m", "key_variable": name}
    answer = client.post("/api/v1/endpoints", json={"settings": settings})
    assert answer.status_code == 422


def test_nobody_at_the_address_is_said_so(client):
    settings = {"name": "nobody", "base_url": "http://127.0.0.1:9/v1", "model": "m", "attempts": 1}
    made = client.post("/api/v1/endpoints", json={"settings": settings}).json()["endpoint_id"]
    answer = client.post(f"/api/v1/endpoints/{made}/test")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "llm_unavailable"
    assert client.delete(f"/api/v1/endpoints/{made}").status_code == 204


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (of(3), {"text": "years", "autor": "Ann"}),
        (f"{of(3)}/preview", {"style": "records", "n_records": 3}),
        (f"{of(3)}/explain", {"scoring": {}}),
        ("/api/v1/explain-runs/1/resume", {"max_cost": 1}),
        ("/api/v1/endpoints", {"settings": {}, "key": "sk-1"}),
    ],
)
def test_a_field_that_does_not_exist_is_told_and_not_left_out(client, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    unknown = list(body)[-1]
    assert f"body.{unknown}" in {field["path"] for field in answer.json()["error"]["fields"]}


def test_a_second_edit_of_the_same_version_conflicts_and_the_old_text_stays(client, harvest_id):
    first = client.post(of(3), json={"text": "years <script>", "author": "Ann"}).json()
    url = f"/api/v1/explanations/{first['explanation_id']}"
    edited = client.patch(url, json={"text": "years after 1900", "version": 1})
    assert edited.status_code == 200, edited.text
    assert (edited.json()["version"], edited.json()["author"]) == (2, "somebody")
    late = client.patch(url, json={"text": "something else", "version": 1})
    assert late.status_code == 409
    old = client.get(url).json()["explanation"]
    assert (old["text"], old["superseded_by"]) == (
        "years <script>",
        edited.json()["explanation_id"],
    )
    current = client.get(of(3)).json()["explanations"]
    assert [one["text"] for one in current] == ["years after 1900"]
    found = client.get("/api/v1/explanations", params={"words": "after 1900"}).json()
    assert [one["text"] for one in found["explanations"]] == ["years after 1900"]


def test_features_are_found_by_the_words_of_their_present_explanations(client, harvest_id):
    made = client.post(of(2), json={"text": "a singular remark"}).json()
    ask = {"explained": "singular"}
    found = client.get(f"{SAE}/features", params=ask).json()
    assert ([one["index"] for one in found["features"]], found["n_matching"]) == ([2], 1)
    url = f"/api/v1/explanations/{made['explanation_id']}"
    client.patch(url, json={"text": "something plain", "version": 1})
    assert client.get(f"{SAE}/features", params=ask).json()["n_matching"] == 0


def test_a_preview_shows_exactly_what_is_then_sent(client, endpoint, server):
    ask = {"style": "records", "explainer": {"endpoint_id": endpoint, "language": "zh"}}
    shown = client.post(f"{of(0)}/preview", json=ask).json()
    before = len(server.log.bodies)
    live = client.post(f"{of(0)}/explain", json={"explainer": ask["explainer"]})
    assert live.status_code == 200
    sent = [b for b in server.log.bodies[before:] if "messages" in b]
    assert shown["messages"] in [body["messages"] for body in sent]  # a probe may come first
    assert len(shown["context_indices"]) == 5


def test_one_feature_is_explained_and_scored_as_a_stream_of_steps(client, endpoint):
    client.post(of(2), json={"text": NAMES[2], "author": "Ann"})
    body = {
        "explainer": {"endpoint_id": endpoint},
        "scorer": {"endpoint_id": endpoint, "kinds": ["simulation"]},
    }
    text = client.post(f"{of(1)}/explain", json=body).text
    events = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("event")]
    assert events == ["asked", "explained", "testing", "scored", "end"]
    steps = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert steps[2]["test"] == "simulation"
    score = steps[3]["score"]
    assert steps[1]["explanation"]["text"] == NAMES[1]
    assert score["metrics"]["top_and_random"]["value"] >= 0.9
    assert score["floors"]["shuffled"]["top_and_random"]["value"] <= 0.2
    details = client.get(f"/api/v1/scores/{score['score_id']}").json()
    assert {one["group"] for one in details["simulated"]} == {"top", "random", "calibration"}


def test_a_feature_that_never_fires_fails_in_words(client, endpoint):
    text = client.post(f"{of(DEAD)}/explain", json={"explainer": {"endpoint_id": endpoint}}).text
    assert '"code":"invalid"' in text
    assert client.get(of(999)).status_code == 404


def test_an_estimate_counts_the_runs_own_prompts_and_sends_nothing(client, endpoint, server):
    client.post(f"/api/v1/endpoints/{endpoint}/test")  # what it can do decides the mode
    before = len(server.log.bodies)
    found = client.post("/api/v1/explain/estimate", json=spec(endpoint)).json()
    assert len(server.log.bodies) == before
    assert (found["n_features"], found["n_explanations"], found["n_scores"]) == (4, 4, 8)
    assert found["explaining"]["requests"] == 4
    assert found["mode"] == "all_at_once"
    assert found["total"]["cost"] is None
    assert not found["over_budget"]
    poor = spec(endpoint, budget={"max_requests": 5})
    assert client.post("/api/v1/explain/estimate", json=poor).json()["over_budget"]


def test_a_request_that_may_not_fit_is_told_before_it_fails(client, scope, endpoint):
    with serving(LlmServer(ScriptedModel(RULES), context_limit=512)) as small:
        made = store_endpoint(scope, small, name="small")
        untested = client.post("/api/v1/explain/estimate", json=spec(made)).json()
        client.post(f"/api/v1/endpoints/{made}/test")
    found = client.post("/api/v1/explain/estimate", json=spec(made)).json()
    assert untested["overflow"] is None
    assert (found["overflow"]["endpoint"], found["overflow"]["limit"]) == ("small", 512)
    assert 512 < found["overflow"]["tokens"] < 5_000
    page = client.get(
        f"/{MODEL_ID}/{SAE_ID}/3/explain?sent=1&by={made}&styles=records&judge=nobody"
    )
    assert "but small holds 512." in re.sub(r"<[^>]+>", "", page.text)


def test_a_limit_in_dollars_needs_prices(client, endpoint):
    answer = client.post("/api/v1/explain", json=spec(endpoint, budget={"max_cost": 1.0}))
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["path"] == "budget.max_cost"


def test_a_run_is_queued_with_its_harvest_named_and_can_be_watched(client, endpoint, harvest_id):
    job = client.post("/api/v1/explain", json=spec(endpoint))
    assert job.status_code == 202, job.text
    run = client.get(f"/api/v1/explain-runs/{job.json()['job_id']}").json()
    assert run["run"]["harvest_id"] == harvest_id
    assert run["run"]["spending"]["requests"] == 0
    assert KEY not in json.dumps(run)
    listed = client.get("/api/v1/explain-runs").json()["runs"]
    assert [one["job"]["job_id"] for one in listed] == [job.json()["job_id"]]
    spread = client.get("/api/v1/score-distributions").json()["distributions"]
    assert {one["layer"] for one in spread} == {1}
    assert client.post("/api/v1/explain", json=spec(99)).status_code == 422
