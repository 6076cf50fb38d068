"""Labels and tags by REST: locked by version, in bulk, renamed, and as files that round-trip."""

import json

import pytest

from core.domain.ids import FeatureId


@pytest.fixture
def url(client, sample) -> str:
    """Address of the label of a living feature, which has none."""
    address = f"{sample.url}/features/{sample.living.index}/label"
    if client.get(address).json()["version"]:
        client.delete(address, headers={"If-Match": "*"})
    return address


def version_of(client, url: str) -> int:
    return int(client.get(url).json()["version"])


def put(client, url: str, **body):
    return client.put(url, json=body, headers={"If-Match": "*"})


def test_a_label_is_put_under_its_version(client, url):
    read = client.get(url)
    assert read.headers["etag"] == f'"{read.json()["version"]}"'
    body = {"name": "sorry", "note": "a\r\nb", "tags": ["Tone", "语气"], "author": "Ann"}
    written = client.put(url, json=body, headers={"If-Match": read.headers["etag"]})
    assert written.status_code == 200
    assert written.json()["tags"] == ["tone", "语气"]
    assert written.json()["note"] == "a\nb"
    assert written.headers["etag"] == f'"{written.json()["version"]}"'
    again = client.put(url, json=body | {"name": "late", "version": read.json()["version"]})
    assert again.status_code == 409
    error = again.json()["error"]
    assert (error["code"], error["fields"][0]["path"]) == ("conflict", "body.name")
    assert "'sorry'" in error["fields"][0]["message"]
    assert client.get(url).json()["name"] == "sorry"


def test_a_change_without_a_version_is_refused(client, url):
    answer = client.put(url, json={"name": "x"})
    assert answer.status_code == 422
    assert "If-Match" in answer.json()["error"]["fields"][0]["hint"]
    assert client.put(url, json={"name": "x"}, headers={"If-Match": "x"}).status_code == 422


def test_every_wrong_field_is_named(client, url):
    answer = put(client, url, name="x" * 121, tags=["a/b"])
    assert [field["path"] for field in answer.json()["error"]["fields"]] == ["name", "tags"]
    assert put(client, url, name="x", colour="red").status_code == 422


def test_a_label_is_deleted_and_read_in_its_history(client, url):
    put(client, url, name="sorry", tags=["tone"])
    gone = client.delete(url, params={"version": version_of(client, url), "author": "Bo"})
    assert (gone.json()["name"], gone.json()["tags"]) == ("", [])
    changes = client.get(f"{url}/history").json()["changes"]
    assert [change["kind"] for change in changes[:2]] == ["delete", "edit"]
    assert (changes[0]["author"], changes[1]["name"]) == ("Bo", "sorry")
    assert client.delete(url, headers={"If-Match": "*"}).status_code == 404


def test_lists_and_pages_of_features_carry_labels_and_are_filtered_by_them(client, sample, url):
    put(client, url, name="saying sorry", tags=["tone", "manners"])
    for query in ("tag=tone&tag=manners", "labelled=true", "words=saying"):
        (row,) = client.get(f"{sample.url}/features?{query}").json()["features"]
        assert (row["label"], row["tags"]) == ("saying sorry", ["manners", "tone"])
    assert client.get(f"{sample.url}/features?tag=never").json()["n_matching"] == 0
    assert client.get(f"{sample.url}/features?tag=a/b").status_code == 422
    page = client.get(f"{sample.url}/features/{sample.living.index}").json()
    assert page["label"]["name"] == "saying sorry"
    line = client.get(f"{sample.url}/features.jsonl?tag=tone").json()
    assert (line["label"], line["note"], line["tags"]) == (
        "saying sorry",
        None,
        ["manners", "tone"],
    )


def test_many_features_are_tagged_at_once(client, sample):
    listed = {"features": {"by": "list", "indices": [1, 2, 2]}, "add": ["Bulk"]}
    address = f"{sample.url}/tags"
    assert client.post(address, json=listed | {"dry_run": True}).json() == {
        "n_chosen": 2,
        "n_changed": 0,
        "dry_run": True,
    }
    assert client.post(address, json=listed).json()["n_changed"] == 2
    dead = {"features": {"by": "filter", "dead": True}, "add": ["silent"], "author": "Ann"}
    n = client.post(address, json=dead).json()["n_changed"]
    assert n == client.get(f"{sample.url}/features?dead=true").json()["n_matching"]
    found = {tag["name"]: tag["n_features"] for tag in client.get("/api/v1/tags").json()["tags"]}
    assert (found["bulk"], found["silent"]) == (2, n)
    gone = {"features": {"by": "filter", "tags": ["bulk"]}, "remove": ["bulk"]}
    assert client.post(address, json=gone).json() == {
        "n_chosen": 2,
        "n_changed": 2,
        "dry_run": False,
    }
    assert (
        client.post(address, json={"features": {"by": "list", "indices": [1]}}).status_code == 422
    )
    wrong = {"features": {"by": "list", "indices": [10_000]}, "add": ["x"]}
    assert client.post(address, json=wrong).status_code == 404


def test_labels_of_a_tag_are_listed_page_by_page(client, sample):
    body = {"features": {"by": "list", "indices": [1, 3, 5]}, "add": ["three"]}
    client.post(f"{sample.url}/tags", json=body)
    first = client.get("/api/v1/labels?tag=three&limit=2").json()
    assert [FeatureId.parse(one["feature"]).index for one in first["labels"]] == [1, 3]
    rest = client.get(
        "/api/v1/labels", params={"tag": "three", "after": first["next_after"]}
    ).json()
    assert [FeatureId.parse(one["feature"]).index for one in rest["labels"]] == [5]
    assert rest["next_after"] is None
    assert client.get("/api/v1/labels?tag=never").status_code == 404
    assert client.get("/api/v1/labels?after=nonsense").status_code == 422


def test_tags_are_renamed_merged_and_deleted(client, sample):
    for tag, indices in (("a", [1, 2]), ("b", [2, 3])):
        body = {"features": {"by": "list", "indices": indices}, "add": [tag]}
        client.post(f"{sample.url}/tags", json=body)
    assert client.patch("/api/v1/tags/a", json={"name": "b"}).status_code == 409
    assert client.patch("/api/v1/tags/a", json={"name": "甲 x"}).json()["name"] == "甲-x"
    merged = client.post("/api/v1/tags/甲-x/merge", json={"into": "b"}).json()
    assert (merged["name"], merged["n_features"]) == ("b", 3)
    assert merged["places"][0]["sae_id"] == sample.sae_id
    assert client.get("/api/v1/tags/甲-x").status_code == 404
    assert client.delete("/api/v1/tags/b").status_code == 204
    assert client.delete("/api/v1/tags/b").status_code == 404


def test_labels_round_trip_as_files_and_refused_rows_are_named(client, url):
    put(client, url, name="saying, sorry", note='two\n"lines"', tags=["tone"], author="Ann")
    for form in ("jsonl", "csv"):
        exported = client.get(f"/api/v1/labels.{form}").content
        client.delete(url, headers={"If-Match": "*"})
        told = client.post(f"/api/v1/labels/import?form={form}&dry_run=true", content=exported)
        assert (told.json()["n_new"], told.json()["dry_run"]) == (1, True)
        assert client.get(url).json()["name"] == ""
        done = client.post(f"/api/v1/labels/import?form={form}", content=exported).json()
        assert done["n_new"] + done["n_same"] == done["n_rows"]
        assert client.get(f"/api/v1/labels.{form}").content == exported
    row = json.dumps({"feature": "m/1-none/1", "name": "x"})
    (refused,) = client.post("/api/v1/labels/import", content=row).json()["rejected"]
    assert (refused["line"], refused["fault"]) == (1, "unknown_sae")


def test_an_import_keeps_or_replaces_other_labels(client, sample, url):
    put(client, url, name="ours")
    row = json.dumps({"feature": str(sample.living), "name": "theirs"})
    kept = client.post("/api/v1/labels/import", content=row).json()
    assert (kept["n_kept"], kept["kept"]) == (1, [str(sample.living)])
    replaced = client.post("/api/v1/labels/import?existing=replace", content=row).json()
    assert replaced["n_replaced"] == 1
    assert client.get(url).json()["name"] == "theirs"


def test_peers_formats_have_the_label_where_they_have_a_place(client, sample, url):
    put(client, url, name="sorry", note="a note", tags=["tone"], author="Ann")
    page = client.get(f"/api/feature/{sample.living}").json()
    assert [one["description"] for one in page["explanations"]] == ["sorry"]
    assert [one["list"]["name"] for one in page["lists"]] == ["tone"]
    assert page["comments"][0]["text"] == "a note"
    lines = client.get(f"{sample.url}/export/neuronpedia-explanations.jsonl").text.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {"sorry"} <= {row["description"] for row in rows}
    assert all(row["index"].isdigit() and row["modelId"] == sample.model_id for row in rows)
    assert len({tuple(row) for row in rows}) == 1


def test_a_constraint_of_a_tag_keeps_its_features_and_its_name(client, sample):
    body = {"features": {"by": "list", "indices": [1, 3]}, "add": ["steer"]}
    client.post(f"{sample.url}/tags", json=body)
    source = {"kind": "folder", "location": "/nowhere"}
    asked = {
        "model_id": sample.model_id,
        "sae": {"sae_id": sample.sae_id, "source": source},
        "hold": [{"by": "tag", "tag": "steer"}, {"by": "list", "indices": [7]}],
        "weight": 2.0,
    }
    entry = client.post("/api/v1/alignments/constraint", json=asked).json()
    assert [one["feature"] for one in entry["held"]] == [1, 3, 7]
    assert entry["tags"] == [{"tag": "steer", "treatment": "held", "features": [1, 3]}]
    asked["hold"] = [{"by": "tag", "tag": "never"}]
    assert client.post("/api/v1/alignments/constraint", json=asked).status_code == 422
