"""Harvests are checked, costed and queued; jobs are watched, cancelled and resumed."""

import pytest

from core.domain.preset import load_preset

SPEC = load_preset("gemma-2-2b").model_dump(mode="json")


@pytest.fixture
def job(client):
    """A queued harvest; there is no worker."""
    answer = client.post("/api/v1/harvests", json=SPEC)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/v1/jobs/{answer.json()['job_id']}"
    return answer.json()


def test_a_submitted_harvest_is_a_queued_job_with_its_settings(client, job):
    detail = client.get(f"/api/v1/jobs/{job['job_id']}").json()
    assert detail["job"] == job
    assert (job["state"], job["kind"], job["can_cancel"]) == ("queued", "harvest", True)
    assert detail["spec"]["model_id"] == "gemma-2-2b"
    assert detail["queue"] == "gpu"


def test_a_preset_can_be_sent_as_it_comes(client):
    names = [preset["name"] for preset in client.get("/api/v1/presets").json()["presets"]]
    assert names == ["demo", "gemma-2-2b"]
    spec = client.get("/api/v1/presets/gemma-2-2b").json()["spec"]
    assert client.post("/api/v1/harvests/estimate", json=spec).status_code == 200


def test_wrong_settings_name_every_wrong_field(client):
    wrong = SPEC | {"model_id": "Not An Id", "context_size": 1}
    answer = client.post("/api/v1/harvests", json=wrong)
    assert answer.status_code == 422
    assert {field["path"] for field in answer.json()["error"]["fields"]} == {
        "model_id",
        "context_size",
    }


def test_an_estimate_says_what_each_number_rests_on(client, scope):
    body = client.post("/api/v1/harvests/estimate", json=SPEC).json()
    assert body["n_tokens"] == {"value": 24_000_000, "basis": "given"}
    assert body["n_features"]["value"] == 26 * 16_384
    assert body["seconds"] == {"value": None, "basis": "unknown"}
    assert body["free_disk_bytes"] > 0


def test_a_queued_job_is_cancelled_at_once_and_resumed_later(client, job):
    url = f"/api/v1/jobs/{job['job_id']}"
    assert client.post(f"{url}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{url}/cancel").status_code == 200
    again = client.post(f"{url}/resume").json()
    assert (again["state"], again["attempt"]) == ("queued", 2)
    assert client.post(f"{url}/resume").status_code == 409
    assert client.post(f"{url}/cancel").json()["state"] == "cancelled"


def test_events_come_in_order_from_any_number_on(client, job):
    url = f"/api/v1/jobs/{job['job_id']}"
    client.post(f"{url}/cancel")
    body = client.get(f"{url}/events").json()
    assert [event["seq"] for event in body["events"]] == [1, 2]
    assert [event["payload"]["state"] for event in body["events"]] == ["queued", "cancelled"]
    later = client.get(f"{url}/events", params={"after": 1}).json()
    assert [event["seq"] for event in later["events"]] == [2]
    assert client.get(f"{url}/events", params={"after": 2}).json() == {"events": [], "last_seq": 2}


def test_jobs_are_listed_newest_first_page_by_page(client):
    made = [client.post("/api/v1/harvests", json=SPEC).json()["job_id"] for _ in range(3)]
    first = client.get("/api/v1/jobs", params={"limit": 2}).json()
    assert [job["job_id"] for job in first["jobs"]] == made[:0:-1]
    rest = client.get("/api/v1/jobs", params={"limit": 2, "before": first["next_before"]}).json()
    assert rest["jobs"][0]["job_id"] == made[0]
    assert first["previous_after"] is None
    back = client.get("/api/v1/jobs", params={"limit": 2, "after": rest["previous_after"]}).json()
    assert back == first


def test_jobs_are_filtered_by_state_and_kind(client, job):
    queued = client.get("/api/v1/jobs", params={"state": "queued", "kind": "harvest"}).json()
    assert job["job_id"] in [found["job_id"] for found in queued["jobs"]]
    assert client.get("/api/v1/jobs", params={"kind": "nothing"}).json()["jobs"] == []
    assert client.get("/api/v1/jobs", params={"state": "running"}).json()["jobs"] == []


def test_a_harvest_is_deleted_with_its_features(client, sample):
    assert client.delete(f"/api/v1/harvests/{sample.harvest_id}").status_code == 204
    assert client.get("/api/v1/harvests").json() == {"harvests": []}
    assert client.get(f"{sample.url}/features").status_code == 404
    assert client.delete(f"/api/v1/harvests/{sample.harvest_id}").status_code == 404
