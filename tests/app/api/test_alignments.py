"""Runs, dry runs, contrasts and drifts over REST."""

import json
from typing import Any

import pytest
from pydantic import JsonValue

from app.services.preferences.pages import demo_card
from core.db.repositories import attempts, explanations
from core.domain.align_check import CheckName
from core.domain.explanation import Explanation, ExplanationMethod
from core.domain.ids import FeatureId
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.launching import make_world, publish_contrast
from tests.support.told_drifts import publish_drift
from tests.support.told_runs import start_run, tell_steps, told_spec

RUNS = "/api/v1/alignments"
STEPS = 40


@pytest.fixture(scope="module")
def runs(scope, sample):
    """Two finished runs of the sample model; what moved was measured after the first."""
    ids = []
    for method in ("fpo", "dpo"):
        spec = told_spec(method, training={"max_steps": STEPS})
        with scope() as session:
            claim = start_run(session, spec)
            tell_steps(session, claim, spec, first=0, last=STEPS, total=STEPS)
            attempts.succeed(session, claim, {"model_dir": "/nowhere/model", "steps": STEPS})
        ids.append(claim.job_id)
    with scope() as session:
        publish_drift(session, run_job_id=ids[0], harvest_id=sample.harvest_id)
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)
        text = Explanation(text="greetings", method=ExplanationMethod.HUMAN, author="ann")
        explanations.add(session, explanations.NewExplanation(feature=feature, explanation=text))
    return ids


def test_presets_are_complete_settings_and_start_runs(client):
    presets = client.get(f"{RUNS}/presets").json()["presets"]
    assert presets[0]["name"] == "demo"
    changes = {"max_pairs": 64, "training": {"max_steps": 3}, "model_id": "another"}
    answer = client.post(RUNS, json={"preset": "demo", "changes": changes})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["state"]) == ("align", "queued")
    assert answer.headers["location"] == f"{RUNS}/{job['job_id']}"
    spec = client.get(f"{RUNS}/{job['job_id']}").json()["spec"]
    assert (spec["max_pairs"], spec["training"]["max_steps"]) == (64, 3)
    assert spec["training"]["batch_size"] == presets[0]["spec"]["training"]["batch_size"]
    assert client.post(RUNS, json={"spec": spec}).status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "either spec or preset"),
        ({"preset": "demo", "spec": {}}, 422, "either spec or preset"),
        ({"preset": "nothing"}, 404, "No preset"),
        ({"preset": "../../../etc/passwd"}, 404, "No preset"),
        ({"preset": "demo", "changes": {"beta": -1}}, 422, "beta"),
        ({"preset": "demo", "changes": {"nonsense": 1}}, 422, "nonsense"),
        ({"preset": "demo", "changes": {"constraint": []}}, 422, "constraint"),
        (
            {"preset": "demo", "changes": {"data": {"kind": "file", "path": "/nowhere/x.jsonl"}}},
            422,
            "data.path",
        ),
    ],
)
def test_settings_that_are_none_are_refused_with_their_fields(client, body, status, words):
    answer = client.post(RUNS, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.text


def test_settings_are_checked_in_a_moment_and_with_the_real_model(client, scope):
    found = client.post(f"{RUNS}/check", json={"preset": "demo"}).json()
    assert found["n_items"] == 128
    assert {check["name"] for check in found["checks"]} >= {"data", "memory"}
    answer = client.post(f"{RUNS}/checks", json={"preset": "demo"})
    assert answer.status_code == 202
    job_id = answer.json()["job_id"]
    assert client.get(f"{RUNS}/checks/{job_id}").status_code == 409
    item: JsonValue = {"name": "data", "passed": False, "message": "m", "code": "c", "hint": "h"}
    report: JsonValue = {"passed": False, "checks": [item]}
    with scope() as session:
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="told:1:1")
        assert claim is not None
        attempts.succeed(session, claim, {"passed": False, "report": report})
    answer = client.get(f"{RUNS}/checks/{job_id}")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["checks"][0]["name"] == CheckName.DATA
    assert told["estimate"] is None
    assert client.get(f"{RUNS}/checks/{job_id + 999}").status_code == 404


def test_a_run_is_listed_and_read_with_its_numbers(client, runs):
    listed = client.get(RUNS, params={"kind": "align"}).json()["runs"]
    assert {run["job"]["job_id"] for run in listed} >= set(runs)
    found = client.get(f"{RUNS}/{runs[0]}").json()
    assert found["run"]["step"] == STEPS
    assert found["run"]["evaluated"]["eval_loss"] > 0
    assert found["moved_at_step"] == STEPS
    assert [f["index"] for f in found["moved"]] == [0, 1, 2]
    assert found["moved"][0]["explanation"] == "greetings"
    assert client.get(f"{RUNS}/999999").status_code == 404


def test_numbers_come_as_a_table_csv_and_json_lines(client, runs):
    table = client.get(f"{RUNS}/{runs[0]}/metrics").json()
    assert table["steps"] == list(range(STEPS + 1))
    assert len(table["columns"]["loss"]) == STEPS + 1
    csv = client.get(f"{RUNS}/{runs[0]}/metrics.csv")
    assert csv.headers["content-type"].startswith("text/csv")
    assert len(csv.text.splitlines()) == STEPS + 2
    rows = client.get(f"{RUNS}/{runs[0]}/metrics.jsonl").text.splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(STEPS + 1))
    assert client.get(f"{RUNS}/{runs[0]}/metrics.xlsx").status_code == 422
    assert client.get(f"{RUNS}/999999/metrics.csv").status_code == 404


def test_runs_are_compared(client, runs):
    found = client.get(f"{RUNS}/compare", params={"run": runs}).json()
    assert [run["job"]["job_id"] for run in found["runs"]] == runs
    assert len(found["metrics"]) == 2
    differences = {one["path"]: one["values"] for one in found["differences"]}
    assert differences["method"] == ["fpo", "dpo"]
    assert client.get(f"{RUNS}/compare", params={"run": runs[:1]}).status_code == 422


def test_what_moved_is_listed_sorted_and_filtered(client, runs):
    drift = client.get(f"{RUNS}/{runs[0]}/drift").json()
    assert drift["run_job_id"] == runs[0]
    assert set(drift["saes"][0]["places"]) == {"chosen", "rejected", "corpus"}
    features = f"{RUNS}/{runs[0]}/drift/features"
    first = client.get(features, params={"limit": 1}).json()
    assert (first["features"][0]["index"], first["features"][0]["treatment"]) == (0, "held")
    assert first["features"][0]["chosen"]["delta"] == pytest.approx(1.5)
    assert first["features"][0]["explanation"] == "greetings"
    following = client.get(features, params={"limit": 1, "after": first["next_after"]}).json()
    assert following["features"][0]["index"] != 0
    for params, indices in (
        ({"words": "greetings"}, [0]),
        ({"treatment": "free"}, [1]),
        ({"explained": True}, [0]),
    ):
        found = client.get(features, params=params).json()["features"]
        assert [row["index"] for row in found] == indices, params
    wrong: tuple[dict[str, Any], ...] = ({"sort": "no"}, {"after": "x"}, {"limit": 0})
    for params in (*wrong, {"sae_id": "Not An Id"}):
        assert client.get(features, params=params).status_code == 422, params
    assert client.get(features, params={"sae_id": "9-none"}).status_code == 404
    assert client.get(f"{RUNS}/{runs[1]}/drift").status_code == 404


def test_a_feature_is_read_in_both_models_and_leads_back_to_its_runs(client, runs, sample):
    address = f"{RUNS}/{runs[0]}/drift/features/{SAE_ID}/0"
    found = client.get(address).json()
    assert found["row"]["index"] == 0
    page = client.get(f"{sample.url}/features/0").json()
    assert len(found["contexts"]) == len(page["contexts"])
    pair = found["contexts"][0]
    assert len(pair["aligned"]) == len(pair["context"]["activations"])
    more = client.get(address, params={"random": True}).json()["contexts"]
    assert {one["context"]["band"] for one in more} >= {"top", "random"}
    (back,) = client.get(f"{sample.url}/features/0/drifts").json()["drifts"]
    assert (back["run_job_id"], back["row"]["treatment"]) == (runs[0], "held")
    assert client.get(f"{RUNS}/{runs[0]}/drift/features/{SAE_ID}/99999").status_code == 404


def test_samples_stand_side_by_side(client, runs):
    found = client.get(f"{RUNS}/{runs[0]}/samples").json()
    assert (found["temperature"], found["seed"]) == (0.0, 0)
    assert found["samples"][0]["aligned"]["text"] == "Paris."
    assert client.get(f"{RUNS}/{runs[1]}/samples").status_code == 404


def test_a_measurement_is_queued_once(client, runs):
    first = client.post(f"{RUNS}/{runs[1]}/drift")
    assert first.status_code == 202, first.text
    assert first.json()["kind"] == "drift"
    again = client.post(f"{RUNS}/{runs[1]}/drift").json()
    assert again["job_id"] == first.json()["job_id"]


def test_a_contrast_is_queued(client):
    settings = {
        "model_id": "tiny",
        "model": {"kind": "folder", "location": "/nowhere"},
        "saes": [{"sae_id": "1-tiny", "source": {"kind": "folder", "location": "/nowhere"}}],
    }
    answer = client.post("/api/v1/contrasts", json=settings)
    assert (answer.status_code, answer.json()["kind"]) == (202, "contrast")
    assert client.post("/api/v1/contrasts", json={**settings, "saes": []}).status_code == 422


def test_contrasts_are_listed_sorted_and_give_constraints(client, scope, tmp_path):
    world = make_world(scope, tmp_path)
    contrast_id = publish_contrast(scope, world, demo_card())
    (listed,) = client.get("/api/v1/contrasts", params={"model_id": world.model_id}).json()[
        "contrasts"
    ]
    assert listed["contrast_id"] == contrast_id
    address = f"/api/v1/contrasts/{contrast_id}"
    assert client.get(address).json()["preference_name"] == "demo"
    rows = client.get(f"{address}/features", params={"limit": 2}).json()
    assert [row["index"] for row in rows["features"]] == [2, 5]
    rejected = {"sort": "effect_size", "descending": False, "limit": 1, "sae_id": world.sae_id}
    rows = client.get(f"{address}/features", params=rejected).json()
    assert [row["index"] for row in rows["features"]] == [5]
    source = {"kind": "folder", "location": str(world.folder / "sae")}
    body = {
        "model_id": world.model_id,
        "sae": {"sae_id": world.sae_id, "source": source},
        "hold": [
            {"by": "contrast", "contrast_id": contrast_id, "side": "chosen", "limit": 1},
            {"by": "list", "indices": [7]},
        ],
        "free": [{"by": "contrast", "contrast_id": contrast_id, "side": "rejected", "limit": 1}],
        "weight": 2.0,
    }
    found = client.post(f"{RUNS}/constraint", json=body).json()
    assert found["held"] == [{"feature": 2, "weight": 2.0}, {"feature": 7, "weight": 2.0}]
    assert found["free"] == [5]
    both = {**body, "free": [{"by": "list", "indices": [7]}]}
    assert "both held and free" in client.post(f"{RUNS}/constraint", json=both).text
    words = {**body, "hold": [{"by": "words", "words": "nothing holds this"}]}
    assert client.post(f"{RUNS}/constraint", json=words).status_code == 422
    assert client.delete(address).status_code == 204
    for gone in (address, f"{address}/features"):
        assert client.get(gone).status_code == 404
