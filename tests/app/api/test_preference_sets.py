"""Preference sets over REST: uploaded in every way, read by pages, refused rows told, deleted."""

import gzip
import io
import json

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from app.services.preferences.uploads import MAX_UPLOAD_BYTES

SETS = "/api/v1/preference-sets"


def rows(n, tag="q"):
    return [
        {"prompt": f"{tag}{i}?", "chosen": f"yes, {tag}{i} 日本", "rejected": f"no {i}"}
        for i in range(n)
    ]


def lines(values):
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()


def upload(client, content, **query):
    return client.post(SETS, content=content, params={"filename": "pairs.jsonl", **query})


def test_the_shipped_set_is_there_without_being_stored(client):
    (first, *_) = client.get(SETS).json()["sets"]
    assert (first["set_id"], first["name"]) == (None, "demo")
    assert client.get(f"{SETS}/demo").json() == first
    page = client.get(f"{SETS}/demo/pairs", params={"split": "eval", "limit": 3}).json()
    assert len(page["pairs"]) == 3
    assert {pair["split"] for pair in page["pairs"]} == {"eval"}
    assert page["n_matching"] == first["n_held_out"]
    assert client.get(f"{SETS}/demo/rejected").json()["rows"] == []


def test_a_file_as_the_body_is_stored_with_a_reason_for_every_refused_row(client):
    values = [*rows(12, "a"), {"prompt": "e", "chosen": "", "rejected": "n"}, rows(1, "a")[0]]
    content = lines(values) + b"\nnot json\n"
    answer = upload(client, content, name="mine", held_out_share=0.25)
    assert answer.status_code == 201, answer.text
    body = answer.json()["set"]
    assert answer.headers["location"] == f"{SETS}/{body['set_id']}"
    assert (body["n_rows"], body["n_pairs"], body["n_rejected"]) == (15, 12, 3)
    assert body["n_train"] + body["n_held_out"] == 12
    assert body["rejected_by_reason"] == {"empty_answer": 1, "duplicate": 1, "not_json": 1}
    assert (body["name"], body["source"], body["formats"]) == (
        "mine",
        "pairs.jsonl",
        {"trl_explicit": 12},
    )
    refused = client.get(f"{SETS}/{body['set_id']}/rejected").json()
    assert [row["reason"] for row in refused["rows"]] == ["empty_answer", "duplicate", "not_json"]
    assert refused["rows"][1]["detail"] == "Row 0 says the same."
    only = client.get(f"{SETS}/{body['set_id']}/rejected", params={"reason": "not_json"}).json()
    assert [row["row"] for row in only["rows"]] == [14]


def test_pairs_come_page_by_page_and_as_lines(client):
    set_id = upload(client, lines(rows(7, "b"))).json()["set"]["set_id"]
    seen, offset = [], 0
    while offset is not None:
        params = {"offset": offset, "limit": 3}
        page = client.get(f"{SETS}/{set_id}/pairs", params=params).json()
        seen += page["pairs"]
        offset = page["next_offset"]
    assert [pair["position"] for pair in seen] == list(range(7))
    assert seen[2]["chosen"] == [{"role": "assistant", "content": "yes, b2 日本"}]
    exported = client.get(f"{SETS}/{set_id}/export")
    assert exported.headers["content-type"].startswith("application/jsonl")
    again = [json.loads(line) for line in exported.text.splitlines()]
    assert [row["prompt"][0]["content"] for row in again] == [f"b{i}?" for i in range(7)]
    second = upload(client, exported.content)
    assert (second.status_code, second.json()["is_new"]) == (200, False)
    assert second.json()["set"]["set_id"] == set_id


def test_forms_parquet_gzip_and_json_are_read_too(client):
    found = []
    files = {"file": ("my pairs.jsonl", lines(rows(3, "c")))}
    found.append(client.post(SETS, files=files))
    table = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows(4, "d")), table)
    found.append(upload(client, table.getvalue(), filename="pairs.parquet"))
    found.append(upload(client, gzip.compress(lines(rows(5, "e"))), filename="x.jsonl.gz"))
    found.append(upload(client, json.dumps(rows(6, "f")).encode(), filename="x.json"))
    assert [answer.status_code for answer in found] == [201] * 4, [a.text for a in found]
    assert [answer.json()["set"]["n_pairs"] for answer in found] == [3, 4, 5, 6]
    assert found[0].json()["set"]["name"] == "my pairs"


def test_a_file_larger_than_other_bodies_is_taken(client):
    content = lines(rows(100, "g" * 60_000))
    assert len(content) > 8 * 1024 * 1024
    answer = upload(client, content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["set"]["n_pairs"] == 100


def test_what_is_no_upload_is_refused_in_words(client):
    for content, query, words in (
        (b"x", {"filename": "pairs.txt"}, "no known kind"),
        (b"x", {"filename": ""}, "has no name"),
        (b"x", {"filename": "pairs.parquet"}, "not a Parquet file"),
        (b"", {}, "nothing to store"),
        (lines([{"chosen": 1}]), {}, "nothing to store"),
        (lines(rows(2)), {"held_out_share": 1.0}, "invalid"),
    ):
        answer = upload(client, content, **query)
        assert answer.status_code == 422, (query, answer.text)
        assert words in answer.text, answer.text
    huge = {"content-length": str(MAX_UPLOAD_BYTES + 1)}
    refused = client.post(SETS, params={"filename": "x.jsonl"}, content=b"x", headers=huge)
    assert refused.status_code == 413


def test_a_set_is_renamed_and_deleted_with_its_file(client, web_app):
    body = upload(client, lines(rows(4, "h"))).json()["set"]
    address = f"{SETS}/{body['set_id']}"
    assert client.patch(address, json={"name": "new"}).json()["name"] == "new"
    path = web_app.state.resources.data_dir / "preferences" / f"{body['content_hash']}.jsonl"
    assert path.is_file()
    assert client.delete(address).status_code == 204
    assert not path.exists()
    for gone in (address, f"{address}/pairs", f"{address}/export"):
        assert client.get(gone).status_code == 404
    assert client.get(f"{SETS}/0").status_code == 422
    assert client.delete(f"{SETS}/demo").status_code == 422


def test_nothing_of_an_upload_stays_behind(client, web_app):
    upload(client, lines(rows(3, "i")))
    upload(client, b"x", filename="x.parquet")
    folder = web_app.state.resources.data_dir / "uploads"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_the_kind_of_a_raw_body_does_not_matter(client, kind):
    answer = client.post(
        SETS,
        params={"filename": "k.jsonl"},
        content=lines(rows(3, kind)),
        headers={"content-type": kind},
    )
    assert answer.status_code == 201, answer.text


def test_a_dataset_is_fetched_and_stored_by_a_job(client):
    data = {"kind": "hub", "name": "owner/pairs", "train_split": "train_prefs"}
    answer = client.post(f"{SETS}/fetch", json={"data": data, "name": "far"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["title"]) == ("fetch", "Fetch preferences of owner/pairs")
    assert answer.headers["location"] == f"/api/v1/jobs/{job['job_id']}"
    spec = client.get(answer.headers["location"]).json()["spec"]
    assert (spec["save_as"], spec["data"]["train_split"]) == ("far", "train_prefs")
    assert client.post(f"{SETS}/fetch", json={"data": data, "name": ""}).status_code == 422
