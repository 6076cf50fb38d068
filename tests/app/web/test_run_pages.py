"""Pages of runs of explanations: overview, form with its estimate, and a run's page."""

import re

import pytest

from app.services.labels import tags
from app.web import run_form
from app.web.routes import explain_runs
from app.web.run_form import read_indices
from core.db.repositories import attempts, explanations
from core.domain.explain_job import ScorerSetting, WholeSae
from core.domain.job import JobFailure
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.explain_runs import attempt, queued, spec_of, store_endpoint
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import NAMES, feature, publish_planted
from tests.support.scripted_model import ScriptedModel

FORM = {
    "sae": f"{MODEL_ID}/{SAE_ID}",
    "features.by": "all",
    "explainer.endpoint": "offline",
    "explainer.styles": "records",
    "explainer.language": "en",
    "explainer.n_records": "5",
    "explainer.n_samples": "1",
    "explainer.temperature": "1",
    "scorer.endpoint": "offline",
    "scorer.language": "en",
    "scorer.kinds": "simulation",
    "scorer.n_score": "5",
    "scorer.n_judged": "20",
    "seed": "0",
}


@pytest.fixture
def planted(session_scope):
    with session_scope() as session:
        return publish_planted(session)


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES), without=["/tokenize"])) as running:
        yield running


def by_server(endpoint, **changes):
    number = str(endpoint)
    return {**FORM, "explainer.endpoint": number, "scorer.endpoint": number, **changes}


def text_of(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


def test_without_runs_the_overview_says_how_to_begin(client):
    text = text_of(client.get("/explanations"))
    assert "Nothing is scored yet" in text
    assert "No run has been started yet." in text


def test_a_finished_run_shows_its_scores_beside_their_floors(
    client, session_scope, tmp_path, planted
):
    attempt(session_scope, tmp_path, spec_of(None, features=WholeSae()))
    response = client.get("/explanations")
    text = text_of(response)
    assert "token lookup (baseline)" in text
    assert "correlation, top and random" in text
    assert re.search(r"4 scores, median 0\.9\d|4 scores, median 1\.00", response.text)
    part = client.get("/explanations", headers={"HX-Request-Type": "partial"})
    assert "<html" not in part.text
    assert 'id="runs"' in part.text


def test_explanations_are_found_by_their_words(client, session_scope, tmp_path, planted):
    attempt(session_scope, tmp_path, spec_of(None, features=WholeSae(), scorer=None))
    found = client.get("/explanations?q=river")
    assert "tokens such as “river”" in found.text
    with session_scope() as session:
        (card,) = explanations.list_cards(session, feature(0))
    assert f'href="/explanations/{card.explanation_id}"' in found.text
    assert "No explanation holds these words." in client.get("/explanations?q=cheese").text


def test_a_run_is_started_from_the_form_and_its_page_opens(client, planted):
    assert "15-demo" not in client.get("/explanations/new").text
    response = client.post("/explanations/new", data=FORM, follow_redirects=False)
    assert response.status_code == 303
    page = client.get(response.headers["location"])
    assert page.status_code == 200
    assert "queued" in page.text
    assert client.get("/explanations/runs", follow_redirects=False).status_code == 303


def test_the_estimate_counts_requests_tokens_cost_and_time(client, session_scope, planted, server):
    endpoint = store_endpoint(session_scope, server, price_prompt=1.0, price_completion=2.0)
    response = client.post(
        "/explanations/new/estimate",
        data=by_server(endpoint, **{"scorer.shuffled_floor": "1"}),
        headers={"HX-Request-Type": "partial"},
    )
    text = text_of(response)
    assert "Features 4" in text
    assert re.search(r"Requests \d+ 4 to explain, \d+ to score", text)
    assert re.search(r"Cost, at most \$\d", text)
    assert "at two seconds an answer, assumed" in text
    assert "assumed: the endpoint is not tested yet" in text


def test_a_run_beyond_its_budget_is_refused_unless_it_is_wanted_all_the_same(
    client, session_scope, planted, server
):
    endpoint = store_endpoint(session_scope, server)
    form = by_server(endpoint, **{"budget.max_requests": "3"})
    refused = client.post("/explanations/new", data=form)
    assert refused.status_code == 422
    assert "may need more than its budget allows" in refused.text
    assert 'name="budget.max_requests" value="3"' in refused.text
    wanted = client.post("/explanations/new", data={**form, "anyway": "1"}, follow_redirects=False)
    assert wanted.status_code == 303


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features.by": "list", "features.indices": "7, x"}, "“x” is no feature number."),
        ({"features.by": "list", "features.indices": "99"}, "has no feature 99."),
        ({"features.by": "query", "features.min_density": "much"}, "Write a number from 0."),
        ({"explainer.n_records": "many"}, "Write a whole number."),
        ({"scorer.kinds": "detection"}, "Detection and fuzzing need an endpoint"),
        ({"scorer.kinds": "embedding"}, "an endpoint that embeds go together"),
        ({"explainer.endpoint": "999"}, "There is no endpoint 999."),
        ({"sae": "no/such"}, "no"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field_and_what_was_typed_is_kept(
    client, planted, changes, told
):
    response = client.post("/explanations/new", data={**FORM, **changes, "seed": "17"})
    assert response.status_code == 422
    assert told in response.text
    assert 'name="seed" value="17"' in response.text


def test_a_paused_run_asks_for_a_budget_and_goes_on_under_it(client, session_scope, planted):
    job_id = queued(session_scope, spec_of(None, features=WholeSae()))
    with session_scope() as session:
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="test:1:1")
        assert claim is not None
        reason = JobFailure(code="budget", message="The budget allows no more.", hint="Raise it.")
        attempts.pause(session, claim, reason)
    path = f"/explanations/runs/{job_id}"
    page = client.get(path)
    assert "The budget allows no more." in page.text
    assert "Resume with this budget" in page.text
    wrong = client.post(f"{path}/resume", data={"with_budget": "1", "max_tokens": "lots"})
    assert wrong.status_code == 422
    assert "Write a whole number." in wrong.text
    assert 'value="lots"' in wrong.text
    gone_on = client.post(
        f"{path}/resume", data={"with_budget": "1", "max_tokens": "5000"}, follow_redirects=False
    )
    assert gone_on.status_code == 303
    assert "5,000" in client.get(path).text or "5000" in client.get(path).text


def test_failures_stand_by_class_with_what_helps(client, session_scope, tmp_path, planted):
    class Refusing(ScriptedModel):
        def explain(self, prompt):
            found = super().explain(prompt)
            return "I'm sorry, but I can't help with that" if found == NAMES[0] else found

    with serving(LlmServer(Refusing(RULES))) as refusing:
        endpoint = store_endpoint(session_scope, refusing)
        spec = spec_of(endpoint, scorer=None)
        job_id = queued(session_scope, spec)
        attempt(session_scope, tmp_path, spec, job_id=job_id)
    text = text_of(client.get(f"/explanations/runs/{job_id}"))
    assert "The model refused to answer refusal 1 0 Try another model or style." in text


def test_another_kind_of_job_has_no_page_here(client, session_scope):
    assert client.get("/explanations/runs/999999").status_code == 404


@pytest.mark.parametrize(
    ("text", "found"),
    [("7", [7]), ("7, 12-14 7", [7, 12, 13, 14]), ("3；5、6\n8–9", [3, 5, 6, 8, 9])],
)
def test_feature_numbers_are_read_with_ranges(text, found):
    assert read_indices(text) == found


@pytest.mark.parametrize("text", ["", " , ", "a", "5-", "0-999999", "9999999999"])
def test_what_is_no_list_of_features_is_refused(text):
    with pytest.raises(ValueError, match="feature"):
        read_indices(text)


def test_the_form_comes_filled_from_an_address():
    form = run_form.fresh(
        {"model": "m", "sae": "s", "dmin": "0.1", "token": "sorry"}, saes=[], endpoints=[]
    )
    values, problems = form.values()
    assert problems == []
    assert (values["model_id"], values["sae_id"]) == ("m", "s")
    chosen = values["features"]
    assert isinstance(chosen, dict)
    assert (chosen["by"], chosen["token"]) == ("query", "sorry")
    assert chosen["min_density"] == pytest.approx(0.001)
    listed = run_form.fresh({"features": "3,4"}, saes=[], endpoints=[]).values()[0]
    assert listed["features"] == {"by": "list", "indices": [3, 4]}


def test_a_run_leads_to_the_explanations_that_it_wrote_page_by_page(
    client, session_scope, tmp_path, planted, monkeypatch
):
    monkeypatch.setattr(explain_runs, "WRITTEN_SHOWN", 3)
    attempt(session_scope, tmp_path, spec_of(None, features=WholeSae()))
    (run,) = client.get("/api/v1/explain-runs").json()["runs"]
    address = f"/explanations/runs/{run['job']['job_id']}"
    first = client.get(address).text
    ids = re.findall(r'href="/explanations/(\d+)" dir="auto"', first)
    assert len(ids) == 3
    assert "$0.0000" in first  # nothing was sent, so that no price is needed
    assert 'title="not above every floor by more than chance"' in first
    older = re.search(r'href="([^"]*before=\d+[^"]*)#written"', first)
    assert older is not None
    second = client.get(older[1].replace("&amp;", "&")).text
    rest = re.findall(r'href="/explanations/(\d+)" dir="auto"', second)
    listed = client.get(f"/api/v1/explain-runs/{run['job']['job_id']}/explanations").json()
    assert ids + rest == [str(e["explanation_id"]) for e in listed["explanations"]]
    assert client.get("/api/v1/explain-runs/999/explanations").status_code == 404


def test_the_form_comes_filled_with_a_tag_or_with_ticked_features(client, session_scope, planted):
    with session_scope() as session:
        tags.tag_features(
            session, model_id=MODEL_ID, sae_id=SAE_ID, indices=[0, 1, 3], add=["tone"], author="Ann"
        )
    place = f"model={MODEL_ID}&sae={SAE_ID}"
    assert ">\n0-1, 3</textarea>" in client.get(f"/explanations/new?{place}&tag=tone").text
    assert (
        f"/explanations/new?tag=tone&amp;{place.replace('&', '&amp;')}"
        in client.get("/tags/tone").text
    )
    ticked = f"feature={MODEL_ID}/{SAE_ID}/2&feature={MODEL_ID}/{SAE_ID}/1"
    assert ">\n1-2</textarea>" in client.get(f"/explanations/new?{ticked}").text
    several = client.get(f"/explanations/new?{ticked}&feature={MODEL_ID}/another/1")
    assert several.status_code == 422
    assert "several SAEs" in several.text


def test_a_scorer_without_an_endpoint_keeps_nothing_that_needs_one():
    form = run_form.from_post({**FORM, "scorer.mode": "schema"}.items())
    assert ScorerSetting.model_validate(form.values()[0]["scorer"]).mode is None
