"""Pages of runs: list, live page and its stream, comparison, what moved, samples, features."""

import csv
import io
import json
import re

import pytest

from app.services.features import catalog
from app.services.labels import labels
from core.domain.ids import FeatureId
from core.jobs import control
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.jobs import job_spec
from tests.support.told_drifts import publish_drift
from tests.support.told_runs import (
    fail_run,
    finish_run,
    start_run,
    tell_steps,
    told_run,
    told_sft,
    told_spec,
)

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
FEATURE = f"/{MODEL_ID}/{SAE_ID}/0"


@pytest.fixture(scope="module")
def told(scope):
    """A finished run of each of two methods, a running one, a failed one, a fine-tuning one."""
    with scope() as session:
        publish_sample(session)
    ids = {}
    with scope() as session:
        harvest_id = catalog.list_harvests(session)[0].harvest_id
        ids["fpo"] = told_run(session, "fpo", steps=60)
        ids["dpo"] = told_run(session, "dpo", steps=40, seed=1)
        publish_drift(session, run_job_id=ids["fpo"], harvest_id=harvest_id)
        for name, spec in (("running", told_spec("fpo")), ("failed", told_spec("tdpo2"))):
            claim = start_run(session, spec)
            tell_steps(session, claim, spec, first=0, last=25, total=60)
            if name == "failed":
                fail_run(session, claim)
            ids[name] = claim.job_id
        ids["sft"] = start_run(session, told_sft()).job_id
    return ids


def test_the_list_shows_runs_with_their_last_numbers(client, told):
    text = client.get("/align").text
    for job_id in told.values():
        assert f'href="/align/{job_id}"' in text
    assert "Training diverged" in text
    row = text[text.index(f'id="run-{told["fpo"]}"') :]
    assert "demo preferences" in row
    assert re.search(r"[\d.]+% → </span><b class=\"strong\">[\d.]+%", row)
    only = client.get("/align?kind=sft").text
    assert f'href="/align/{told["sft"]}"' in only
    assert f'href="/align/{told["fpo"]}"' not in only


def test_a_finished_run_is_drawn_without_a_script_and_has_no_stream(client, told):
    text = client.get(f"/align/{told['fpo']}").text
    assert "hx-sse:connect" not in text
    assert text.count("<polyline") >= 15
    for name in ("loss", "rewards/chosen", "logps/rejected", "eval_probe_kl/forward"):
        assert name in text
    assert f"feature_divergence/{SAE_ID}/chosen" in text
    assert "120 trained on, 24 held out, 3 rows refused" in text
    assert f"jobs/{told['fpo']}/tensorboard" in text
    assert f'href="{FEATURE}"' in text
    assert 'id="resume"' not in text


def test_a_running_run_has_a_stream_from_what_it_shows_and_can_be_stopped(client, told):
    text = client.get(f"/align/{told['running']}").text
    assert re.search(rf'hx-sse:connect="/align/{told["running"]}/live\?after=\d+"', text)
    assert 'id="stop-now"' in text
    assert "25<span> / 60</span>" in text
    assert "1 min 10 s" in text


def test_a_failed_run_says_why_and_what_to_do(client, told):
    text = client.get(f"/align/{told['failed']}").text
    assert "Training diverged" in text
    assert "The loss of step 13 is not finite" in text
    assert "Lower the learning rate" in text
    assert 'id="resume"' in text


def test_a_fine_tuning_run_has_no_preferences(client, told):
    text = client.get(f"/align/{told['sft']}").text
    assert "rewards/chosen" not in text
    assert "Held-out loss" in text
    assert "moved-most" not in text


def test_a_finished_fine_tuning_leads_on_in_the_part_that_a_stream_renews(client, told, scope):
    with scope() as session:
        claim = start_run(session, told_sft())
    link = f'href="/align/new?model=run:{claim.job_id}"'
    assert link not in client.get(f"/align/{claim.job_id}").text
    with scope() as session:
        finish_run(session, claim, steps=3)
    live = client.get(f"/align/{claim.job_id}/live?after=0").text
    assert link in live
    assert link in client.get(f"/align/{claim.job_id}").text


def test_a_model_without_a_page_is_named_and_not_linked(client, told, scope):
    with scope() as session:
        claim = start_run(session, told_spec(model_id="of-elsewhere"))
    text = client.get(f"/align/{claim.job_id}").text
    assert "<dd>of-elsewhere</dd>" in text
    assert 'href="/of-elsewhere"' not in text
    assert f'href="/{MODEL_ID}"' in client.get(f"/align/{told['fpo']}").text


def test_the_history_is_a_table_for_the_script(client, told):
    answer = client.get(f"/align/{told['fpo']}/history").json()
    table = answer["tables"]["run"]
    assert table["steps"] == list(range(61))
    assert table["columns"]["loss"][0] is None
    assert len(table["columns"]["loss"]) == 61


def test_the_stream_tells_rows_then_the_page_and_resumes(client, scope, told):
    answer = client.get(f"/align/{told['failed']}/live")
    events = answer.text.split("\n\n")
    rows = next(e for e in events if e.startswith("event: rows"))
    data = json.loads(next(li for li in rows.splitlines() if li.startswith("data: "))[6:])
    assert data["run"]["steps"] == list(range(26))
    assert "id:" not in rows
    assert '<hx-partial hx-target="#run-stats"' in answer.text
    newest = re.findall(r"^id: (\d+)$", answer.text, re.MULTILINE)[-1]
    again = client.get(f"/align/{told['failed']}/live", headers={"Last-Event-ID": newest}).text
    assert "event: rows" not in again
    assert "event: closed" in again


def test_settings_and_numbers_are_files(client, told):
    config = client.get(f"/align/{told['fpo']}/config.json")
    assert "attachment" in config.headers["content-disposition"]
    assert config.json()["method"] == "fpo"
    csv = client.get(f"/align/{told['fpo']}/metrics.csv")
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.startswith("step,")
    assert len(client.get(f"/align/{told['fpo']}/metrics.jsonl").text.splitlines()) == 61
    assert client.get(f"/align/{told['fpo']}/metrics.xml").status_code == 422


def test_runs_are_compared_on_the_same_axes(client, told):
    path = f"/align/compare?run={told['fpo']}&run={told['dpo']}"
    text = client.get(path).text
    assert "Accuracy against KL" in text
    assert '<code>method</code></th><td class="num mono">fpo</td><td class="num mono">dpo' in text
    source = re.search(r'<live-plots src="([^"]+)"', text)
    assert source
    tables = client.get(source[1].replace("&amp;", "&")).json()["tables"]
    assert tables.keys() == {str(told["fpo"]), str(told["dpo"])}


def test_titles_of_many_runs_curves_have_a_line_of_their_own(client, told):
    two = client.get(f"/align/compare?run={told['fpo']}&run={told['dpo']}").text
    three = client.get(
        f"/align/compare?run={told['fpo']}&run={told['dpo']}&run={told['running']}"
    ).text
    assert 'class="plot many"' not in two
    assert three.count('class="plot many"') == three.count("<figcaption>") > 0


@pytest.mark.parametrize("chosen", ["", "?run=1", "?" + "&".join(f"run={i}" for i in range(9))])
def test_too_few_or_too_many_runs_lead_back_to_the_list(client, chosen):
    answer = client.get(f"/align/compare{chosen}")
    assert answer.status_code == 200
    assert "Tick from 2 to 6 runs in the list." in answer.text


def test_labels_name_what_moved_on_the_live_page_and_filter_it(client, scope, told):
    feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)
    with scope() as session:
        labels.save(session, feature, name="saying sorry", tags=["tone"], version=None)
    assert "saying sorry" in client.get(f"/align/{told['fpo']}").text
    page = f"/align/{told['fpo']}/moved"
    for query in ("labelled=yes", "tags=tone", "words=SORRY"):
        text = client.get(f"{page}?{query}").text
        assert "saying sorry" in text
        assert len(re.findall(r'name="feature"', text)) == 1
    assert "saying sorry" not in client.get(f"{page}?labelled=no").text
    assert client.get(f"{page}?tags=a/b").status_code == 422
    features = f"/api/v1/alignments/{told['fpo']}/drift/features"
    (row,) = client.get(f"{features}?tag=tone").json()["features"]
    assert (row["label"], row["tags"]) == ("saying sorry", ["tone"])
    with scope() as session:
        labels.delete(session, feature, version=None)


def test_what_moved_is_listed_sorted_and_filtered(client, told):
    path = f"/align/{told['fpo']}/moved"
    text = client.get(path).text
    first = re.search(r"<tbody>\s*<tr>.*?</a>", text[text.index("drift-table") :], re.DOTALL)
    assert first
    assert f'name="feature" value="{MODEL_ID}/{SAE_ID}/0"' in first.group()
    assert f'name="from" value="{told["fpo"]}"' in text
    assert f'href="{FEATURE}?run={told["fpo"]}&amp;show=delta"' in first.group()
    assert "81.2%" in text
    by_index = client.get(f"{path}?sort=index&dir=asc").text
    assert by_index.index("index&amp;dir=desc") > 0
    held = client.get(f"{path}?treatment=held").text
    assert held.count("show=delta") == 1
    none = client.get(f"{path}?words=nothing").text
    assert "No feature passes these filters." in none
    wrong = client.get(f"{path}?dmin=x")
    assert wrong.status_code == 422
    assert "Write a percentage from 0 to 100." in wrong.text


def test_what_moved_is_a_file_under_the_filters_of_its_page(client, told):
    path = f"/align/{told['fpo']}/moved"
    links = re.findall(rf'href="({path}\.csv[^"]*)"', client.get(f"{path}?sort=index").text)
    assert [sorted(link.partition("?")[2].split("&amp;")) for link in links] == [
        [f"sae={SAE_ID}", "sort=index"]
    ]
    answer = client.get(f"{path}.csv?sort=index&dir=asc")
    assert answer.headers["content-disposition"].endswith(f'run-{told["fpo"]}_{SAE_ID}_moved.csv"')
    found = list(csv.DictReader(io.StringIO(answer.text)))
    shown = client.get(f"/api/v1/alignments/{told['fpo']}/drift/features?sort=index&limit=200")
    told_rows = sorted(shown.json()["features"], key=lambda row: row["index"])
    assert [row["feature"] for row in found] == [
        f"{MODEL_ID}/{SAE_ID}/{row['index']}" for row in told_rows
    ]
    for number in ("base_mean", "delta", "cosine"):
        assert float(found[0][f"chosen_{number}"]) == told_rows[0]["chosen"][number]
    held = client.get(f"{path}.jsonl?treatment=held").text.splitlines()
    assert [json.loads(row)["treatment"] for row in held] == ["held"]
    assert client.get(f"{path}.csv?dmin=x").status_code == 422
    assert client.get(f"/align/{told['dpo']}/moved.csv").status_code == 404


def test_a_measurement_is_started_from_the_page(client, told):
    path = f"/align/{told['dpo']}/moved"
    assert 'id="measure"' in client.get(path).text
    answer = client.post(f"/align/{told['dpo']}/drift", follow_redirects=False)
    assert answer.status_code == 303
    text = client.get(path).text
    assert 'id="measure"' not in text
    assert "Base and aligned model are being compared" in text
    assert 'hx-trigger="every 2s"' in text


@pytest.mark.parametrize("name", ["running", "sft"])
def test_a_run_without_an_aligned_model_says_why_nothing_is_compared(client, told, name):
    text = client.get(f"/align/{told[name]}/moved").text
    assert 'id="measure"' not in text
    assert "To the run" in text


def test_samples_stand_side_by_side_with_what_differs(client, told):
    text = client.get(f"/align/{told['fpo']}/samples").text
    assert "What is the capital of France?" in text
    assert "<mark> on what you mean by</mark>" in text
    assert "the same text" in text
    assert "cut at the limit" in text


def test_a_feature_has_its_drift_and_its_contexts_in_both_models(client, told):
    text = client.get(FEATURE).text
    assert f"/align/{told['fpo']}/moved?sae={SAE_ID}" in text
    assert "+1.5" in text
    changed = client.get(f"{FEATURE}?run={told['fpo']}&show=delta").text
    assert re.search(r'<i class="n\d+', changed)
    assert "<b>−" in changed
    raw = client.get(f"{FEATURE}?run={told['fpo']}&show=delta&view=raw").text
    assert "the change of its activation" in raw
    assert re.search(r"\t[+-]\d", raw)
    aligned = client.get(f"{FEATURE}?run={told['fpo']}&show=aligned&band=random")
    assert aligned.status_code == 200


def test_the_ways_to_other_features_keep_run_and_view(client, told):
    state = f"?run={told['fpo']}&show=delta&band=75-100"
    text = client.get(FEATURE + state).text
    ways = re.findall(rf'href="(/{MODEL_ID}/{SAE_ID}/(?:\d+|random)\?[^"]*)"', text)
    kept = f"?run={told['fpo']}&amp;show=delta&amp;band=75-100"
    assert f"/{MODEL_ID}/{SAE_ID}/1{kept}" in ways  # the next one
    assert f"/{MODEL_ID}/{SAE_ID}/random{kept}" in ways
    drawn = client.get(f"/{MODEL_ID}/{SAE_ID}/random{state}", follow_redirects=False)
    assert drawn.headers["location"].endswith(state)
    part = client.get(f"{FEATURE}?run={told['fpo']}&show=aligned", headers=HTMX).text
    assert '<hx-partial hx-target="#steps"' in part
    assert f"/1?run={told['fpo']}&amp;show=aligned" in part
    assert f'href="/{MODEL_ID}/{SAE_ID}/1"' in client.get(FEATURE).text


@pytest.mark.parametrize("query", ["show=aligned", "run={run}", "run={run}&show=delta"])
def test_a_file_of_a_chosen_run_holds_both_models_and_the_change(client, told, query):
    answer = client.get(f"{FEATURE}.jsonl?{query.format(run=told['fpo'])}")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    plain = client.get(f"{FEATURE}.jsonl").text.splitlines()
    assert len(rows) == len(plain)
    for row, line in zip(rows, plain, strict=True):
        base = json.loads(line)
        assert {name: row[name] for name in base} == base
        assert row["run_job_id"] == told["fpo"]
        assert row["aligned_id"]
        numbers = zip(
            row["activations"], row["aligned_activations"], row["activation_changes"], strict=True
        )
        assert all(change == pytest.approx(new - old, abs=1e-5) for old, new, change in numbers)
    assert any(any(row["activation_changes"]) for row in rows)
    table = client.get(f"{FEATURE}.csv?run={told['fpo']}&band=random").text
    assert table.splitlines()[0].endswith(
        "activations,run_job_id,aligned_id,aligned_activations,activation_changes"
    )


def test_a_run_that_was_not_measured_has_no_file(client, told):
    assert client.get(f"{FEATURE}.jsonl?run=99999").status_code == 404
    address = f"/api/v1/models/{MODEL_ID}/saes/{SAE_ID}/features/0.jsonl"
    assert client.get(address, params={"run": 99999}).status_code == 404
    told_row = json.loads(client.get(address, params={"run": told["fpo"]}).text.splitlines()[0])
    assert len(told_row["aligned_activations"]) == len(told_row["activations"])


def test_a_feature_of_no_such_run_is_shown_as_the_base_reads_it(client, told):
    text = client.get(f"{FEATURE}?run=99999&show=delta").text
    assert not re.search(r'<i class="n\d+', text)


def test_a_run_stops_and_goes_on(client, told, scope):
    path = f"/align/{told['sft']}"
    stopped = client.post(f"{path}/stop", headers=HTMX)
    assert 'id="run-state"' not in stopped.text
    assert "The run stops at its next step" in stopped.text
    assert "stopping" in client.get(path).text
    again = client.post(f"{path}/resume", headers=HTMX)
    assert again.status_code == 409


def test_another_job_is_no_run(client):
    assert client.get("/align/999999").status_code == 404
    assert client.get("/align/999999/live").status_code == 404
    assert client.get("/align/words").status_code == 404


@pytest.mark.parametrize("address", ["/align/{}/stop", "/explanations/runs/{}/cancel"])
def test_a_page_of_runs_stops_no_other_job(client, scope, address):
    with scope() as session:
        job_id = control.submit(session, job_spec())
    assert client.post(address.format(job_id), headers=HTMX).status_code == 404
    assert client.get(f"/api/v1/jobs/{job_id}").json()["job"]["state"] == "queued"
