"""Explanations on pages: read, written, edited beside others, previewed, asked for, compared."""

import html
import re

import pytest

from app.web import i18n
from core.db.repositories import scores
from core.db.repositories.scores import NewScore
from core.domain.explanation import ExplanationMethod, Missing, ScoreKind
from core.domain.ids import FeatureId
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.explain_runs import store_endpoint
from tests.support.explained import (
    add_explanation,
    judged,
    judging,
    simulated,
    simulation,
)
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import DEAD, NAMES, publish_planted
from tests.support.scripted_model import ScriptedModel

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
BASE = f"/{MODEL_ID}/{SAE_ID}"
OFFLINE = {"sent": "1", "by": "table", "judge": "table", "kinds": "simulation"}


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(scope, server):
    with scope() as session:
        publish_planted(session)
    return str(store_endpoint(scope, server))


@pytest.fixture
def new(scope, endpoint):
    """Makes an explanation of feature 3, or of another one; its id."""

    def make(text="years", *, index=3, method=ExplanationMethod.LLM, score=None):
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)
        with scope() as session:
            made = add_explanation(session, feature, text=text, method=method)
            if score is not None:
                scores.add(session, NewScore(explanation_id=made, score=score, examples=()))
            return made

    return make


def text_of(page):
    """What a page says, without its marks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def form_of(endpoint, **changes):
    """A sent form: explain and simulate by the scripted server."""
    fields = {"sent": "1", "by": endpoint, "judge": endpoint, "styles": "records"}
    return {**fields, "kinds": "simulation", "shuffled": "1", "language": "en", **changes}


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_page_answers_in_both_languages_without_inline_code(client, new, scope, language):
    made = new(score=simulation())
    with scope() as session:
        examples = tuple(judged(i, (" a", " b"), label=bool(i % 2), verdict=True) for i in range(4))
        score_id = scores.add(
            session, NewScore(explanation_id=made, score=judging(), examples=examples)
        )
    paths = (
        f"{BASE}/3",
        f"{BASE}/3/explain",
        f"{BASE}/3/explain?score={made}",
        f"{BASE}/3/explain?preview=1",
        f"{BASE}/{DEAD}/explain",
        f"{BASE}/3/compare",
        f"{BASE}/3/explanations/new",
        f"/explanations/{made}",
        f"/explanations/{made}/edit",
        f"/explanations/{made}/delete",
        f"/scores/{score_id}",
        BASE,
    )
    for path in paths:
        answer = client.get(path, params={"lang": language} if "?" not in path else None)
        assert answer.status_code == 200, (path, answer.text)
        assert not re.search(r"<[^>]*\s(style|on\w+)=", answer.text), path
        assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text), path


def test_the_foremost_explanation_is_the_heading_of_its_feature(client, new):
    new("a weak guess", index=1, score=simulation(0.2))
    new("a strong guess", index=1, score=simulation(0.9))
    new("tokens such as", index=1, method=ExplanationMethod.TOKEN_LOOKUP, score=simulation(0.95))
    shown = client.get(f"{BASE}/1").text
    assert re.search(r'id="headline"><bdi class="said">a strong guess<', shown)
    client.post(f"{BASE}/1/explanations", data={"text": "what Ann says", "author": "Ann"})
    shown = client.get(f"{BASE}/1").text
    assert re.search(r'id="headline"><bdi class="said">what Ann says<', shown)
    assert "token lookup (baseline)" in shown


def test_a_score_stands_beside_its_floors_and_says_how_much_was_answered(client, new):
    made = new(score=simulation(0.71, shuffled=0.05, lookup=0.4))
    said = text_of(client.get(f"/explanations/{made}").text)
    assert "0.71" in said
    assert "shuffled 0.05" in said
    assert "lookup 0.40" in said
    assert "10 of 10 contexts" in said
    assert "all tokens at once · scripted" in said


def test_a_score_without_a_value_says_why_in_words(client, new):
    made = new(score=simulation(None))
    said = text_of(client.get(f"/explanations/{made}").text)
    assert "no score" in said
    assert "fewer than four in five answered" in said
    assert "The answer cannot be read (3), The server took too long (1)" in said


def test_a_score_is_named_with_what_is_read_beside_it(client, new):
    simulated = text_of(client.get(f"/explanations/{new(score=simulation(0.71))}").text)
    assert "simulation correlation 0.71" in simulated
    assert "random only 0.71 calibrated R² 0.71" in simulated
    judged = text_of(client.get(f"/explanations/{new(score=judging(ScoreKind.DETECTION))}").text)
    assert "detection balanced accuracy 0.80" in judged
    assert "F1 0.80 AUROC – no probabilities" in judged


def test_contexts_that_failed_are_no_cause_of_a_score_that_has_none(client, new):
    page = text_of(client.get(f"/explanations/{new(score=simulation(None))}").text)
    assert "fewer than four in five answered: The answer cannot be read (3)" in page
    constant = simulation(None, missing=Missing.CONSTANT_PREDICTION)
    page = text_of(client.get(f"/explanations/{new(score=constant)}").text)
    assert "the prediction is constant · failed: The answer cannot be read (3)" in page


def test_a_preview_shows_exactly_what_is_then_sent(client, endpoint, server):
    fields = form_of(endpoint, language="zh", judge="nobody")
    shown = client.get(f"{BASE}/0/explain/preview", params=fields).text
    blocks = re.findall(r"<pre class=\"transcript\".*?>\n(.*?)</pre>", shown, re.DOTALL)
    texts = [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks]
    before = len(server.log.bodies)
    assert client.post(f"{BASE}/0/explain", data=fields).status_code == 200
    sent = [b for b in server.log.bodies[before:] if "messages" in b]
    assert texts == [message["content"] for message in sent[-1]["messages"]]


def test_without_a_script_every_step_is_shown_when_all_is_done(client, endpoint):
    said = client.post(f"{BASE}/0/explain", data=form_of(endpoint)).text
    kinds = re.findall(r'<article class="step (\w+)"', said)
    assert kinds == ["asked", "explained", "scored"]
    assert NAMES[0] in text_of(said)
    assert "finished" in text_of(said)


def test_with_a_script_steps_come_one_by_one(client, endpoint):
    answer = client.post(f"{BASE}/2/explain/live", data=form_of(endpoint))
    assert answer.headers["content-type"].startswith("text/event-stream")
    messages = answer.text.strip().split("\n\n")
    kinds = [re.findall(r'class="step (\w+)"', message) for message in messages]
    assert kinds == [[], ["asked"], ["explained"], [], ["scored"], []]
    assert "testing: simulation" in messages[3]
    assert "finished" in messages[-1]
    assert all("data-running" in message for message in messages[:-1])


def test_of_several_samples_the_page_says_which_were_tried_and_which_was_chosen(client, endpoint):
    said = client.post(f"{BASE}/1/explain", data=form_of(endpoint, n_samples="2")).text
    kinds = re.findall(r'<article class="step (\w+)"', said)
    assert kinds == ["asked", "explained", "asked", "explained", "chosen", "scored"]
    words = text_of(said)
    assert "2 explanations compared · simulation · 10 calibration contexts" in words
    assert words.count("chosen") == 1
    assert '<li class="best"><b class="num">' in said


def test_the_stream_speaks_the_reader_s_language(client, endpoint):
    client.cookies.set("lang", "zh_CN")
    answer = client.post(f"{BASE}/2/explain/live", data=OFFLINE)
    client.cookies.clear()
    assert "已完成" in answer.text


def test_offline_the_table_explains_and_is_called_a_baseline(client, endpoint, server):
    before = len(server.log.paths)
    said = text_of(client.post(f"{BASE}/1/explain", data=OFFLINE).text)
    assert len(server.log.paths) == before
    assert "tokens such as" in said
    assert "simulation baseline" in said
    assert "nothing: offline" in said


def test_one_explanation_alone_can_be_scored(client, new, endpoint):
    first, second = new("one", index=2), new("two", index=2)
    fields = form_of(endpoint, score=str(second))
    client.post(f"{BASE}/2/explain", data=fields)
    shown = [client.get(f"/api/v1/explanations/{made}").json() for made in (first, second)]
    assert [len(one["explanation"]["scores"]) for one in shown] == [0, 1]


def test_what_fails_is_told_with_code_and_hint(client, endpoint):
    said = text_of(client.post(f"{BASE}/{DEAD}/explain", data=form_of(endpoint)).text)
    assert "The feature cannot be explained or scored" in said
    assert "invalid" in said
    assert "1 failed" in said


def test_a_form_that_asks_for_nothing_comes_back(client, endpoint):
    fields = form_of(endpoint) | {"kinds": "", "styles": ""}
    answer = client.post(f"{BASE}/0/explain", data=fields)
    assert answer.status_code == 422
    assert "Choose what the explainer is shown." in answer.text
    wrong = client.post(f"{BASE}/0/explain", data=form_of(endpoint, n_records="many"))
    assert wrong.status_code == 422
    assert 'value="many"' in wrong.text
    streamed = client.post(f"{BASE}/0/explain/live", data=form_of(endpoint, n_records="900"))
    assert 'role="alert"' in streamed.text


def test_the_estimate_follows_the_form_and_sends_nothing(client, endpoint, server):
    before = len(server.log.bodies)
    shown = client.get(f"{BASE}/0/explain/estimate", params=form_of(endpoint), headers=HTMX)
    assert "<html" not in shown.text
    assert "Requests" in shown.text
    assert len(server.log.bodies) == before


def test_a_second_edit_shows_both_versions_and_loses_neither(client, new):
    made = new("the first text")
    url = f"/explanations/{made}/edit"
    first = client.post(url, data={"text": "the text of Ann", "version": "1", "author": "Ann"})
    assert first.status_code == 200
    late = client.post(url, data={"text": "the text of Bob", "version": "1"}, headers=HTMX)
    assert late.status_code == 409
    assert "the text of Ann" in late.text
    assert "the text of Bob</textarea>" in late.text
    (action,) = re.findall(r'action="([^"]+)"', late.text)
    (version,) = re.findall(r'name="version" value="(\d+)"', late.text)
    saved = client.post(action, data={"text": "the text of Bob", "version": version}, headers=HTMX)
    assert saved.status_code == 200
    page = client.get(f"/explanations/{made}").text
    for text in ("the first text", "the text of Ann", "the text of Bob"):
        assert text in page


def test_a_text_that_cannot_be_kept_comes_back_as_it_was_typed(client, new):
    made = new()
    long = "x" * 400
    answer = client.post(f"/explanations/{made}/edit", data={"text": long, "version": "1"})
    assert answer.status_code == 422
    assert f"{long}</textarea>" in answer.text
    assert "Write at most 300." in answer.text
    empty = client.post(f"{BASE}/3/explanations", data={"text": " ", "author": "Ann"})
    assert empty.status_code == 422
    assert 'value="Ann"' in empty.text


def test_the_text_of_an_edit_outlives_its_explanation(client, new):
    made = new("soon gone")
    client.post(f"/explanations/{made}/delete")
    fields = {"text": "my words", "version": "1", "feature": f"{MODEL_ID}/{SAE_ID}/3"}
    answer = client.post(f"/explanations/{made}/edit", data=fields, headers=HTMX)
    assert answer.status_code == 409
    assert "It was deleted meanwhile" in answer.text
    (action,) = re.findall(r'action="([^"]+)"', answer.text)
    assert client.post(action, data={"text": "my words"}).status_code == 200


def test_a_change_by_htmx_answers_with_the_card_the_heading_and_a_toast(client, new):
    new("some text", index=0)
    data = {"text": "mine", "author": "Ann"}
    answer = client.post(f"{BASE}/0/explanations", data=data, headers=HTMX)
    assert 'id="explanations"' in answer.text
    assert '<hx-partial hx-target="#headline"' in answer.text
    assert "Explanation saved." in answer.text
    assert "author=Ann" in answer.headers["set-cookie"]
    client.cookies.clear()


def test_a_deleted_explanation_is_gone_after_a_question(client, new):
    made = new(score=simulation())
    asked = client.get(f"/explanations/{made}/delete")
    assert "Its 1 score goes with it." in asked.text
    gone = client.post(f"/explanations/{made}/delete", follow_redirects=False)
    assert gone.headers["location"] == f"{BASE}/3"
    assert client.get(f"/explanations/{made}").status_code == 404


def test_explanations_are_compared_only_where_they_were_tested_alike(client, new):
    one = new("weak", score=simulation(0.2))
    two = new("strong", score=simulation(0.7))
    other = new("elsewhere", score=simulation(0.9, judge="another model"))
    said = text_of(client.get(f"{BASE}/3/compare?e={one}&e={two}&e={other}").text)
    assert "is ahead by 0.50. The 95 % intervals do not meet." in said
    assert "Fewer than two of them have a value here" in said


def test_a_lone_explanation_has_nothing_to_be_compared_with(client, endpoint):
    said = text_of(client.get(f"{BASE}/{DEAD}/compare").text)
    assert "There are not two explanations" in said


def test_the_list_shows_explanations_and_finds_features_by_their_words(client, new):
    new("a very peculiar word", index=2, score=simulation(0.66))
    shown = text_of(client.get(BASE, params={"words": "peculiar"}).text)
    assert "1 feature" in shown
    assert "a very peculiar word" in shown
    assert "0.66" in shown
    nothing = client.get(BASE, params={"words": "never written"}).text
    assert "No feature matches" in nothing
    jump = client.get("/go", params={"q": "peculiar word", "from": BASE}, follow_redirects=False)
    assert jump.headers["location"] == f"{BASE}?words=peculiar+word"


def test_details_show_real_and_simulated_activations_of_the_same_tokens(client, new, scope):
    made = new()
    tokens = (" the", " river", " ran")
    with scope() as session:
        score_id = scores.add(
            session,
            NewScore(
                explanation_id=made,
                score=simulation(None),
                examples=(
                    simulated(4, tokens),
                    simulated(5, tokens, group="random", failed=True),
                    simulated(6, tokens, group="calibration"),
                ),
            ),
        )
    page = client.get(f"/scores/{score_id}").text
    for group in ("Top contexts", "Random contexts", "Calibration contexts"):
        assert group in page
    rows = re.findall(r'<p class="tx" dir="auto">(.*?)</p>', page)
    assert len(rows) == 5  # real and simulated, but for the context that failed
    assert {re.sub(r"<[^>]+>", "", row) for row in rows} == {"".join(tokens)}
    assert '<i class="no"> ran</i>' in page
    assert "fewer than four in five answered" in page
    assert "The answer as it came" in page


def test_judged_contexts_stand_by_outcome_errors_first(client, new, scope):
    made = new()
    cases = [(True, True), (True, False), (False, True), (False, False), (True, None)]
    with scope() as session:
        score_id = scores.add(
            session,
            NewScore(
                explanation_id=made,
                score=judging(ScoreKind.FUZZING),
                examples=tuple(
                    judged(i, (" a", " b"), label=label, verdict=verdict)
                    for i, (label, verdict) in enumerate(cases)
                ),
            ),
        )
    page = client.get(f"/scores/{score_id}").text
    assert re.findall(r'<section class="panel pairs" id="(\w+)"', page) == [
        *("miss", "alarm", "failed", "hit", "pass"),
    ]
    assert '<i class="h12 m"> b</i>' in page
    said = text_of(page)
    assert "The model refused to answer" in said
    assert "p(yes) 0.90" in said
    assert "no probabilities" in said
