"""Preference sets on their pages: upload, report, save, read, contrast, delete."""

import csv
import gzip
import io
import json
import re

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from app.services.preferences import pages as preference_pages
from core.db.repositories import attempts, jobs
from core.domain.align_jobs import ContrastSpec
from core.domain.alignment import HubPreferences
from core.domain.job import JobFailure, parse_spec
from core.interchange.preference_store import upload_rows
from core.interchange.preferences import preference_lines
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.launching import make_world, publish_contrast
from tests.support.pairs import some_pairs

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
GOOD = {"prompt": "Is it late?", "chosen": "Yes, it is.", "rejected": "Perhaps it is."}
BAD = [
    '{"prompt": "x", "chosen": "a"}',
    "{broken",
    json.dumps(GOOD),
    json.dumps(GOOD | {"chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}),
    json.dumps(GOOD | {"prompt": "Same?", "rejected": GOOD["chosen"]}),
]


def parquet_of(rows):
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), file)
    return file.getvalue()


def mixed_file(n_pairs=25):
    lines = [*preference_lines(some_pairs(n_pairs, 5)), json.dumps(GOOD), *BAD]
    return ("\n".join(lines) + "\n").encode()


def upload(client, content, name="mixed.jsonl", **fields):
    answer = client.post(
        "/preferences/new",
        data={"way": "file", **fields},
        files={"file": (name, content)},
        follow_redirects=False,
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def stored(client, content=None, name="My set"):
    """The address of a set that was uploaded and saved."""
    place = upload(client, content or mixed_file())
    token = place.split("?")[0]
    answer = client.post(
        token, data={"name": name, "share": "0.05", "action": "save"}, follow_redirects=False
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


@pytest.fixture(scope="module")
def world(scope, tmp_path_factory):
    return make_world(scope, tmp_path_factory.mktemp("world"))


def test_the_shipped_set_can_be_read(client):
    listed = client.get("/preferences")
    assert listed.status_code == 200, listed.text
    assert "Direct over evasive answers" in listed.text
    shown = client.get("/preferences/demo?split=eval")
    assert shown.status_code == 200
    assert shown.text.count('<article class="preference"') == 20
    assert 'aria-label="Pair' in shown.text


def test_an_upload_is_reported_before_anything_is_saved(client, scope):
    place = upload(client, mixed_file())
    page = client.get(place)
    assert page.status_code == 200, page.text
    with scope() as session:
        assert not any(c.source == "mixed.jsonl" for c in preference_pages.list_sets(session))
    for words in ("field missing", "not JSON", "duplicate", "contradiction", "same answers"):
        assert words in page.text, words
    assert "No field &#39;rejected&#39;." in page.text
    assert "Row 30 says the same." in page.text
    assert "TRL, explicit prompt" in page.text
    only = client.get(f"{place}?reason=duplicate").text
    assert only.count('<td class="num mono inline"') == 1
    lines = client.get(f"{place}/rejected.jsonl?share=0.05").text.splitlines()
    assert [json.loads(line)["row"] for line in lines] == [31, 32, 33, 34, 35]


def test_a_saved_set_keeps_pairs_and_rejected_rows(client):
    base = stored(client)
    text = client.get(base).text
    assert "My set" in text
    assert "<mark>" in text
    rejected = client.get(f"{base}?view=rejected&reason=not_json").text
    assert "{broken" in rejected
    assert rejected.count('<td class="num mono inline"') == 1
    second = client.get(f"{base}?offset=20").text
    assert 'id="pair-20"' in second
    assert 'id="pair-19"' not in second
    exported = client.get(f"{base}.jsonl")
    assert len(exported.text.splitlines()) == 31
    assert 'filename="My-set.jsonl"' in exported.headers["content-disposition"]


@pytest.mark.parametrize("kind", ["json", "parquet", "jsonl.gz"])
def test_other_kinds_of_files_are_read_too(client, kind):
    rows = [GOOD, GOOD | {"prompt": "Is it early?"}, {"prompt": "No answers."}]
    content = {
        "json": lambda: json.dumps(rows).encode(),
        "parquet": lambda: parquet_of(rows),
        "jsonl.gz": lambda: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
    }[kind]()
    page = client.get(upload(client, content, name=f"rows.{kind}")).text
    assert "field missing" in page
    assert "Save 2 pairs" in page


def test_a_file_that_is_not_what_its_name_says_is_told(client):
    place = upload(client, b"nothing of the kind", name="rows.parquet")
    answer = client.get(place)
    assert answer.status_code == 422
    assert "rows.parquet is not a Parquet file" in answer.text


def test_saving_the_same_file_twice_gives_one_set(client):
    content = mixed_file(26)
    assert stored(client, content) == stored(client, content, name="Another name")


def test_a_set_is_renamed_and_deleted(client):
    base = stored(client, mixed_file(27))
    client.post(f"{base}/rename", data={"name": "Kinder answers"})
    assert "Kinder answers" in client.get("/preferences").text
    assert client.post(f"{base}/rename", data={"name": " "}).status_code == 422
    client.post(f"{base}/delete")
    assert client.get(base).status_code == 404
    assert "Kinder answers" not in client.get("/preferences").text
    assert client.post("/preferences/demo/delete").status_code == 404


def test_an_upload_without_a_usable_row_cannot_be_saved(client):
    place = upload(client, b'{"chosen": 1}\n')
    assert "No row of this file can be used." in client.get(place).text
    answer = client.post(place, data={"name": "x", "share": "0.05", "action": "save"})
    assert answer.status_code == 422
    assert "there is nothing to store" in answer.text


def test_an_upload_without_a_name_comes_back(client):
    place = upload(client, mixed_file())
    answer = client.post(place, data={"name": " ", "share": "0.05", "action": "save"})
    assert answer.status_code == 422
    assert 'id="problem-name"' in answer.text


def test_an_upload_that_was_thrown_away_is_gone(client):
    place = upload(client, mixed_file())
    client.post(place, data={"action": "discard"})
    assert client.get(place).status_code == 404


@pytest.mark.parametrize(
    ("fields", "file", "problem"),
    [
        ({"way": "file"}, ("notes.docx", b"x"), "file"),
        ({"way": "path", "path": "/no/such/folder"}, None, "path"),
        ({"way": "file", "held_out": "120"}, ("a.jsonl", b"{}"), "held_out"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_field(client, fields, file, problem):
    files = {"file": file} if file else {"file": ("", b"")}
    answer = client.post("/preferences/new", data=fields, files=files)
    assert answer.status_code == 422
    assert f'id="problem-{problem}"' in answer.text


def test_a_file_of_this_machine_is_read_where_it_is(client, tmp_path):
    path = tmp_path / "here.jsonl"
    path.write_bytes(mixed_file())
    answer = client.post(
        "/preferences/new",
        data={"way": "path", "path": str(path), "held_out": "50"},
        files={"file": ("", b"")},
        follow_redirects=False,
    )
    page = client.get(answer.headers["location"])
    assert str(path) in page.text
    assert 'value="50"' in page.text


def test_a_contrast_is_started_from_the_set(client, scope, sample):
    fields = {"model": f"model:{MODEL_ID}", "sae": f"{MODEL_ID}/{SAE_ID}", "max_pairs": "64"}
    answer = client.post("/preferences/demo/contrasts", data=fields, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/preferences/demo#contrasts"
    with scope() as session:
        (card,) = jobs.list_jobs(session, kind="contrast")
        spec = ContrastSpec.model_validate(jobs.get_spec(session, card.job_id))
    assert spec.max_pairs == 64
    assert spec.data.kind == "demo"
    assert [sae.sae_id for sae in spec.saes] == [SAE_ID]
    assert f"/jobs/{card.job_id}" in client.get("/preferences/demo").text
    panel = client.get("/preferences/demo", headers=HTMX).text
    assert panel.strip().startswith('<section class="panel" id="contrasts" hx-get=')
    wrong = client.post(
        "/preferences/demo/contrasts", data={"model": f"model:{MODEL_ID}", "max_pairs": "x"}
    )
    assert wrong.status_code == 422
    assert "Choose at least one SAE." in wrong.text
    assert "Write a whole number from 1." in wrong.text
    back = client.get("/preferences/demo/contrasts?split=eval", follow_redirects=False)
    assert back.headers["location"] == "/preferences/demo?split=eval"


def test_saes_of_every_known_model_can_be_reached(client, sample, world):
    page = client.get("/preferences/demo").text
    assert f"model=model%3A{world.model_id}#start" in page
    other = client.get(f"/preferences/demo?model=model:{world.model_id}").text
    assert f'name="sae" value="{world.model_id}/{world.sae_id}"' in other
    assert f'name="sae" value="{MODEL_ID}/{SAE_ID}"' not in other


def test_a_contrast_ranks_features_and_carries_them_to_a_run(client, scope, world):
    base = stored(client, mixed_file(28))
    assert "No contrast of these pairs yet" in client.get(f"{base}/contrast").text
    with scope() as session:
        card = preference_pages.get_card(session, int(base.rpartition("/")[2]))
    publish_contrast(scope, world, card)
    page = client.get(f"{base}/contrast")
    assert page.status_code == 200, page.text
    place = f"{world.model_id}/{world.sae_id}"
    assert re.findall(rf'href="/{place}/(\d+)"', page.text)[:2] == ["2", "5"]
    assert f'href="/{place}/0"' not in page.text  # it fires on no answer
    rejected_first = client.get(f"{base}/contrast?sort=effect_size&dir=asc").text
    assert re.findall(rf'href="/{place}/(\d+)"', rejected_first)[0] == "5"
    assert "No feature matches these filters." in client.get(f"{base}/contrast?words=none").text
    assert "Write a number from 0 to 100." in client.get(f"{base}/contrast?share=x").text
    picked = (
        f"/align/new?data={card.content_hash}&model=model:{world.model_id}&treat=held"
        f"&feature={place}/2"
    )
    form = client.get(picked).text
    assert f'value="{card.content_hash}" selected' in form
    assert ">2</textarea>" in form
    assert client.get(f"{base}/contrast?contrast=999").status_code == 404


def test_a_contrast_of_a_tuned_model_shows_the_features_of_the_sae(client, scope, world):
    base = stored(client, mixed_file(33))
    with scope() as session:
        card = preference_pages.get_card(session, int(base.rpartition("/")[2]))
    publish_contrast(scope, world, card, model_id="tuned-by-us")
    page = client.get(f"{base}/contrast")
    assert page.status_code == 200
    place = f"{world.model_id}/{world.sae_id}"
    assert re.findall(rf'href="/{place}/(\d+)"', page.text)[:2] == ["2", "5"]
    assert 'href="/tuned-by-us' not in page.text
    lines = client.get(f"{base}/contrast.jsonl").text.splitlines()
    assert json.loads(lines[0])["feature"] == f"{place}/2"


def test_a_contrast_is_a_file_under_the_filters_of_its_page(client, scope, world):
    base = stored(client, mixed_file(31))
    assert client.get(f"{base}/contrast.csv").status_code == 404
    with scope() as session:
        card = preference_pages.get_card(session, int(base.rpartition("/")[2]))
    contrast_id = publish_contrast(scope, world, card)
    page = client.get(f"{base}/contrast?sort=effect_size&dir=asc").text
    (link,) = re.findall(rf'href="({base}/contrast\.csv[^"]*)"', page)
    answer = client.get(link.replace("&amp;", "&"))
    name = f"contrast-{contrast_id}_{world.sae_id}.csv"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    found = list(csv.DictReader(io.StringIO(answer.text)))
    params = {"sort": "effect_size", "descending": False, "limit": 200}
    listed = client.get(f"/api/v1/contrasts/{contrast_id}/features", params=params).json()
    assert [row["feature"] for row in found] == [
        f"{world.model_id}/{world.sae_id}/{row['index']}" for row in listed["features"]
    ]
    for number in ("mean_chosen", "difference", "effect_size", "share_rejected"):
        assert float(found[0][number]) == listed["features"][0][number]
    assert found[0]["preference_hash"] == card.content_hash
    lines = client.get(f"{base}/contrast.jsonl").text.splitlines()
    assert [json.loads(line)["feature"][-2:] for line in lines[:2]] == ["/2", "/5"]
    assert client.get(f"{base}/contrast.json?words=none").json() == []
    assert client.get(f"{base}/contrast.csv?share=x").status_code == 422
    assert client.get(f"{base}/contrast.csv?contrast=999").status_code == 404


def test_no_other_address_names_a_set(client):
    assert client.get("/preferences/nothing").status_code == 404
    assert client.get("/preferences/99999").status_code == 404
    assert client.get("/preferences/uploads/" + "0" * 32).status_code == 404


def fetched(client, **fields):
    """The address of the report of a dataset that a job is to fetch."""
    answer = client.post(
        "/preferences/new",
        data={"way": "hub", "name": "/data/pairs", "train_split": "", **fields},
        files={"none": ("", b"")},
        follow_redirects=False,
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def newest_job(scope):
    with scope() as session:
        card = jobs.list_jobs(session, kind="fetch", limit=1)[0]
        return card, parse_spec(jobs.get_spec(session, card.job_id))


def test_a_dataset_is_fetched_by_a_job_and_reported_as_an_upload(client, scope, web_app):
    place = fetched(client, held_out="10", eval_split="test")
    card, spec = newest_job(scope)
    assert spec.data == HubPreferences(name="/data/pairs", train_split="train", eval_split="test")
    waiting = client.get(place)
    assert f'href="/jobs/{card.job_id}"' in waiting.text
    assert "not saved yet" in waiting.text
    token = place.split("?")[0]
    assert "every 2s" in client.get(f"{token}?fetching=1", headers=HTMX).text
    rows = upload_rows(web_app.state.resources.data_dir, spec.upload)
    rows.mkdir()
    (rows / "train.jsonl").write_text(json.dumps(GOOD), encoding="utf-8")
    other = json.dumps(GOOD | {"prompt": "And now?"})
    (rows / "test.jsonl").write_text(other, encoding="utf-8")
    ready = client.get(f"{token}?fetching=1", headers=HTMX)
    assert ready.headers["hx-redirect"] == token
    report = client.get(place)
    assert "Save 2 pairs" in report.text
    saved = client.post(
        token, data={"name": "far", "share": "0.05", "action": "save"}, follow_redirects=False
    )
    assert "/data/pairs" in client.get(saved.headers["location"]).text


def test_a_fetch_that_failed_says_why_and_offers_the_form_again(client, scope):
    place = fetched(client)
    card, _ = newest_job(scope)
    with scope() as session:
        claim = attempts.claim(session, job_id=card.job_id, attempt=1, owner="test:1:1")
        assert claim is not None
        failure = JobFailure(code="not_found", message="There is no dataset.", hint="Look again.")
        attempts.fail(session, claim, failure)
    page = client.get(place).text
    assert "There is no dataset." in page
    assert "Look again." in page
    assert 'href="/preferences/new"' in page


def test_a_dataset_without_a_name_is_refused_in_the_form(client):
    answer = client.post(
        "/preferences/new", data={"way": "hub", "name": " "}, files={"none": ("", b"")}
    )
    assert answer.status_code == 422
    assert "Name a dataset of the hub or a folder." in answer.text
