"""Jobs are started, shown, stopped and told on pages."""

import asyncio
import json
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import JsonValue
from sqlalchemy import event

from app.deps import Resources
from app.services.jobs import jobs
from app.web import i18n, sse
from app.web.render import Here
from core.db.repositories import attempts
from core.domain.job import EventKind, JobState
from core.explaining.keys import KeyRing
from core.jobs import control
from tests.support.jobs import job_spec

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def job_id(scope):
    with scope() as session:
        return control.submit(session, job_spec("work"))


def test_lists_of_jobs_lead_to_newer_and_older_ones(client, scope):
    with scope() as session:
        ids = [control.submit(session, job_spec("work")) for _ in range(120)]
    newest = client.get("/jobs").text
    assert "Newer" not in newest
    middle = client.get(f"/jobs?before={ids[-50]}").text
    assert f'href="/jobs?after={ids[-51]}"' in middle
    assert f'href="/jobs?before={ids[-100]}"' in middle
    assert "Newest" not in newest
    assert f'id="job-{ids[-1]}"' in client.get(f"/jobs?after={ids[-51]}").text


def corpus_fields(tmp_path, *, text="some text"):
    """Fields of a form for a harvest of local files."""
    (tmp_path / "corpus.txt").write_text(text)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 8, "num_hidden_layers": 2}')
    sae = tmp_path / "sae"
    sae.mkdir()
    (sae / "cfg.json").write_text(
        '{"d_in": 8, "d_sae": 16, "hook_name": "blocks.1.hook_resid_post", "architecture": "relu"}'
    )
    return {
        "preset": "own",
        "model_id": "my-model",
        "model.kind": "folder",
        "model.location": str(model),
        "saes.0.sae_id": "1-mine",
        "saes.0.source.kind": "folder",
        "saes.0.source.location": str(sae),
        "corpus.kind": "file",
        "corpus.path": str(tmp_path / "corpus.txt"),
        "dtype": "float32",
        "device": "cpu",
        "context_size": "64",
    }


def test_a_harvest_is_started_from_the_form(client, tmp_path):
    answer = client.post("/jobs", data=corpus_fields(tmp_path), follow_redirects=False)
    assert answer.status_code == 303, answer.text
    page = client.get(answer.headers["location"])
    assert "Harvest my-model over corpus.txt" in page.text
    assert "queued" in page.text


def test_a_wrong_form_comes_back_with_what_was_typed(client, tmp_path):
    fields = corpus_fields(tmp_path) | {"corpus.path": "/no/such/file.txt", "n_top": "many"}
    answer = client.post("/jobs", data=fields)
    assert answer.status_code == 422
    assert 'value="/no/such/file.txt"' in answer.text
    assert "There is no file /no/such/file.txt." in answer.text
    assert 'value="many"' in answer.text
    assert "2 settings have to be mended." in answer.text


def test_one_more_sae_keeps_the_rest(client, tmp_path):
    answer = client.post("/jobs", data=corpus_fields(tmp_path) | {"action": "add"})
    assert answer.status_code == 200
    assert 'name="saes.1.sae_id"' in answer.text
    assert 'value="1-mine"' in answer.text


def test_the_estimate_is_a_fragment_that_follows_the_form(client, tmp_path):
    fields = corpus_fields(tmp_path)
    shown = client.post("/jobs/estimate", data=fields, headers=HTMX)
    assert shown.status_code == 200
    assert "<html" not in shown.text
    assert "16" in shown.text
    wrong = client.post("/jobs/estimate", data=fields | {"model_id": "Ä"}, headers=HTMX)
    assert "The estimate comes when the form is complete." in wrong.text


def test_a_job_is_stopped_and_goes_on(client, job_id):
    stopped = client.post(f"/jobs/{job_id}/cancel", follow_redirects=False)
    assert stopped.status_code == 303
    page = client.get(f"/jobs/{job_id}").text
    assert '<span class="pill ">stopped</span>' in page
    assert "cancelled" not in page
    assert 'id="resume"' in page
    assert "hx-sse:connect" not in page
    client.post(f"/jobs/{job_id}/resume")
    page = client.get(f"/jobs/{job_id}").text
    assert "queued" in page
    assert f'hx-sse:connect="/jobs/{job_id}/live?after=' in page


def test_stopping_by_htmx_answers_with_a_toast_and_leaves_the_state_to_the_stream(client, job_id):
    answer = client.post(f"/jobs/{job_id}/cancel", headers=HTMX)
    assert answer.status_code == 200
    assert 'id="status"' not in answer.text
    assert '<hx-partial hx-target="#toasts"' in answer.text


def test_going_on_with_what_has_not_stopped_is_told(client, job_id):
    again = client.post(f"/jobs/{job_id}/resume", headers=HTMX)
    assert again.status_code == 409
    assert "toast-error" in again.text


def test_the_list_filters_by_state_and_looks_again_by_itself(client, job_id):
    client.post(f"/jobs/{job_id}/cancel")
    shown = client.get("/jobs?state=cancelled").text
    assert f'id="job-{job_id}"' in shown
    assert 'hx-trigger="every 5s"' in shown
    assert f'id="job-{job_id}"' not in client.get("/jobs?state=succeeded").text


def test_a_first_harvest_under_way_shows_on_the_home_page(client, job_id):
    text = client.get("/").text
    assert f'href="/jobs/{job_id}"' in text
    assert 'hx-trigger="every 3s"' in text


def read_stream(scope, job_id, *, seq, language="en"):
    """Every message of a finished job's stream after an event."""

    async def read():
        resources = Resources(
            scope=scope,
            data_dir=Path(),
            cache_dir=Path(),
            keys=KeyRing(secret_key=None, data_dir=Path(), environment={}),
            stopping=threading.Event(),
        )
        here = Here(path="/", query=(), theme="auto", lang=language, section="jobs")
        stream = sse.job_stream(resources, job_id, seq=seq, here=here)
        return [message async for message in stream]

    return asyncio.run(asyncio.wait_for(read(), 10))


def test_a_stream_tells_what_happened_and_closes(scope, job_id):
    with scope() as session:
        control.request_cancel(session, job_id)
    first, *_, last = read_stream(scope, job_id, seq=0)
    assert '<hx-partial hx-target="#status"' in first.raw_data
    assert last.event == sse.CLOSED


def test_curves_hear_of_speed_before_the_page_is_told(scope, job_id):
    with scope() as session:
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="told:1:1")
        assert claim is not None
        told: dict[str, JsonValue] = {"done": 5, "total": 10, "unit": "tokens", "rate": 2.5}
        told |= {"remaining_seconds": 2.0, "phase": "harvesting"}
        now = datetime.now(UTC)
        attempts.append_events(session, claim, [(EventKind.PROGRESS, now, told)])
        attempts.succeed(session, claim, {})
    rows, page, last = read_stream(scope, job_id, seq=0)
    assert rows.event == sse.ROWS
    assert rows.id is None
    assert json.loads(rows.raw_data)["run"]["columns"] == {"rate": [2.5], "share": [0.5]}
    assert page.id is not None
    assert last.event == sse.CLOSED


def test_a_job_that_ends_during_a_look_is_shown_as_it_ended(scope, job_id):
    @contextmanager
    def interrupted():
        """Sessions in which the job is cancelled by another right before its events are read."""

        def cancel(state):
            if (
                "FROM job_event" in str(state.statement)
                and "log" not in state.statement.compile().params.values()
            ):
                with scope() as other:
                    if jobs.get_job(other, job_id).card.active:
                        control.request_cancel(other, job_id)

        with scope() as session:
            event.listen(session, "do_orm_execute", cancel)
            yield session

    first, last = read_stream(interrupted, job_id, seq=0)
    assert "stopped" in first.raw_data
    assert last.event == sse.CLOSED


def test_a_reader_who_comes_back_misses_nothing_and_hears_nothing_twice(scope, job_id):
    with scope() as session:
        control.request_cancel(session, job_id)
        newest = jobs.get_job(session, job_id).last_seq
    messages = read_stream(scope, job_id, seq=0)
    assert messages[-2].id == str(newest)
    (only,) = read_stream(scope, job_id, seq=newest)
    assert only.event == sse.CLOSED


def test_a_stream_speaks_the_reader_s_language(scope, job_id):
    with scope() as session:
        control.request_cancel(session, job_id)
    first, *_ = read_stream(scope, job_id, seq=0, language="zh_CN")
    assert "已停止" in first.raw_data
    assert i18n.current.get() == "en"


def test_the_stream_of_no_job_is_told_before_it_begins(client):
    assert client.get("/jobs/999999/live").status_code == 404


def test_the_stream_is_resumable_over_http(client, scope, job_id):
    with scope() as session:
        control.request_cancel(session, job_id)
        assert jobs.get_job(session, job_id).card.state is JobState.CANCELLED
    answer = client.get(f"/jobs/{job_id}/live")
    assert answer.headers["content-type"].startswith("text/event-stream")
    newest = re.findall(r"^id: (\d+)$", answer.text, re.MULTILINE)[-1]
    resumed = client.get(f"/jobs/{job_id}/live", headers={"Last-Event-ID": newest})
    assert "id:" not in resumed.text
    assert "event: closed" in resumed.text
