"""Explaining in the browser: offline, by a server, scored, edited beside others, compared."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from core.db.repositories import explanations
from core.domain.explanation import ExplanationMethod
from core.domain.ids import FeatureId
from tests.browser.site import Site
from tests.browser.test_access import LOOKS, faults, wear
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.explain_runs import store_endpoint
from tests.support.explained import HOSTILE_TEXT, add_explanation, add_hostile
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import DEAD, NAMES, publish_planted
from tests.support.scripted_model import ScriptedModel

pytestmark = pytest.mark.browser

WORK_MS = 60_000  # scores are resampled many times, slow on a loaded machine


@pytest.fixture(scope="module")
def server():
    with serving(LlmServer(ScriptedModel(RULES))) as running:
        yield running


@pytest.fixture(scope="module")
def planted(site, server):
    """Features with known rules, and a server that knows the rules."""
    with site.scope() as session:
        publish_planted(session, seed=11)
    store_endpoint(site.scope, server, name="local model")
    return site


def feature(index: int) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


def open_feature(page: Page, site: Site, index: int) -> None:
    """A feature's page once its links act in place; before that they lead to pages of their own."""
    page.goto(f"{site.list}/{index}")
    expect(page.locator("#explanations [data-htmx-powered]").first).to_be_attached()


def explain(page: Page, index: int, **choices: str) -> None:
    """From the feature's page to a result."""
    page.locator("#explanations").get_by_role("link", name="Explain", exact=True).click()
    expect(page).to_have_url(re.compile(rf"/{index}/explain"))
    for name, label in choices.items():
        page.locator(f"[name={name}]").select_option(label=label)
    page.locator("#run").click()
    expect(page.locator("#live-state")).to_contain_text("finished", timeout=WORK_MS)


def test_a_feature_is_explained_offline_and_called_a_baseline(page: Page, planted):
    page.goto(f"{planted.list}/0")
    expect(page.locator("#explanations")).to_contain_text("Nobody has explained this feature yet.")
    table = "token lookup table, offline (baseline)"
    explain(page, 0, by=table, judge=table)
    expect(page.locator("#steps .step")).to_have_count(2)
    expect(page.locator("#steps")).to_contain_text("tokens such as")
    expect(page.locator("#steps .pill", has_text="baseline")).to_be_visible()
    page.get_by_role("link", name="The feature").click()
    expect(page.locator("#headline")).to_contain_text("tokens such as")


def test_a_feature_is_explained_and_scored_while_one_watches(page: Page, planted, server):
    page.goto(f"{planted.list}/1")
    before = len(server.log.paths)
    explain(page, 1)
    assert len(server.log.paths) > before
    steps = page.locator("#steps .step")
    expect(steps).to_have_count(3)
    expect(steps.nth(1)).to_contain_text(NAMES[1])
    steps.nth(0).locator("summary").first.click()
    expect(steps.nth(0).locator(".transcript").last).to_contain_text("Activations:")
    steps.nth(2).get_by_role("link", name="Every example").click()
    expect(page).to_have_url(re.compile(r"/scores/\d+$"))
    expect(page.locator("#top .ctx")).to_have_count(5)
    expect(page.locator("#calibration")).to_contain_text("not scored")


def test_a_token_of_the_details_tells_both_values_and_shows_its_twin(page: Page, planted):
    with planted.scope() as session:
        (card, *_) = explanations.list_cards(session, feature(1))
    page.goto(f"{planted.url}/scores/{card.scores[0].score_id}")
    token = page.locator("#top .tx").first.locator(".h12").first
    token.hover()
    tip = page.locator(".tip")
    expect(tip.locator("[data-tip=other]")).to_have_text(re.compile(r"^\d+\.\d\d$"))
    expect(page.locator(".twin")).to_have_count(1)
    expect(page.locator(".twin")).to_have_text(token.inner_text())


def test_the_prompt_is_shown_before_anything_is_sent(page: Page, planted, server):
    page.goto(f"{planted.list}/2/explain")
    page.evaluate("window.mark = 1")
    before = len(server.log.paths)
    page.locator("[value=highlights]").check()
    expect(page.locator("#estimate")).to_contain_text("2")
    page.get_by_role("button", name="Preview prompt").click()
    expect(page.locator("#preview .preview")).to_have_count(2)
    expect(page.locator("#preview .transcript .tab").first).to_be_attached()
    assert page.evaluate("window.mark") == 1
    assert len(server.log.paths) == before


def test_a_run_is_stopped_and_can_begin_again(page: Page, planted, server):
    page.goto(f"{planted.list}/2/explain")
    server.latency = 5.0
    page.locator("#run").click()
    expect(page.locator("#live-state")).to_contain_text(
        re.compile(r"waiting for an answer 0:0[2-5]")
    )
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#live-state")).to_contain_text("stopped")
    expect(page.locator("#run")).to_be_enabled()
    server.latency = 0.0
    page.locator("#run").click()
    expect(page.locator("#live-state")).to_contain_text("finished", timeout=WORK_MS)
    expect(page.locator("#steps .step.explained")).to_have_count(1)


def test_what_cannot_be_explained_says_why(page: Page, planted):
    page.goto(f"{planted.list}/{DEAD}/explain")
    expect(page.locator("main")).to_contain_text("This feature never fired")
    page.locator("#run").click()
    expect(page.locator("#steps")).to_contain_text("cannot be explained", timeout=WORK_MS)
    expect(page.locator("#live-state")).to_contain_text("1 failed")


def test_two_people_edit_and_no_text_is_lost(page: Page, planted, quiet_console):
    with planted.scope() as session:
        made = add_explanation(
            session, feature(3), text="years", method=ExplanationMethod.LLM, author="model"
        )
    open_feature(page, planted, 3)
    page.keyboard.press("e")
    text = page.locator("textarea[name=text]")
    expect(text).to_be_focused()
    text.fill("years that I saw")
    with planted.scope() as session:
        explanations.edit(session, made, text="years of one century", author="Ann", version=1)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#present-text")).to_have_text("years of one century")
    expect(text).to_have_value("years that I saw")
    text.fill("years of one century that I saw")
    page.locator("[name=author]").fill("Bob")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#headline")).to_have_text("years of one century that I saw")
    expect(page.locator(".toast")).to_contain_text("Explanation saved.")
    page.locator(".explanation.foremost .text a").click()
    expect(page.locator(".versions li")).to_have_count(3)
    quiet_console[:] = [line for line in quiet_console if "409" not in line]


def test_one_writes_compares_and_deletes(page: Page, planted):
    open_feature(page, planted, 3)
    page.get_by_role("link", name="Write one yourself").click()
    page.locator("textarea[name=text]").fill("numbers that name a year")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".explanation")).to_have_count(2)
    page.locator("#explanations").get_by_role("link", name="Compare").click()
    expect(page.locator(".compare-table")).to_contain_text("numbers that name a year")
    expect(page.locator(".compare-table")).to_contain_text("None of them has been scored.")
    open_feature(page, planted, 3)
    page.locator(".explanation.foremost").get_by_role("link", name="Delete").click()
    expect(page.get_by_role("link", name="Keep it")).to_be_focused()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".explanation")).to_have_count(1)


def test_texts_of_others_do_not_run(page: Page, planted):
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    with planted.scope() as session:
        explanation_id, score_id = add_hostile(session, feature(0))
    for path in (
        f"/explanations/{explanation_id}",
        f"/scores/{score_id}",
        f"/{feature(0)}",
        f"/{feature(0)}/compare",
        f"/{feature(0)}/explain?score={explanation_id}",
        f"/explanations/{explanation_id}/edit",
    ):
        page.goto(f"{planted.url}{path}")
        assert page.locator("img").count() == 0
        assert page.locator("main script").count() == 0
    page.goto(f"{planted.url}/explanations/{explanation_id}")
    assert page.locator("h1 .said").first.text_content() == HOSTILE_TEXT
    page.goto(f"{planted.url}/scores/{score_id}")
    row = page.locator(".ctx").first
    box = row.bounding_box()
    assert box is not None
    for token in row.locator(".tx > i").all():
        inner = token.bounding_box()
        if inner is not None and inner["width"]:
            assert inner["x"] >= box["x"] - 1
            assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 1
            assert inner["y"] >= box["y"] - 1
            assert inner["y"] + inner["height"] <= box["y"] + box["height"] + 1


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_of_explanations_has_a_fault(page: Page, planted, axe, look):
    with planted.scope() as session:
        found = explanations.list_cards(session, feature(1))
        hostile = explanations.list_cards(session, feature(0))[0]
    paths = (
        f"/{feature(1)}",
        f"/{feature(1)}/explain?preview=1",
        f"/{feature(0)}/compare",
        f"/{feature(DEAD)}/compare",
        f"/explanations/{found[0].explanation_id}",
        f"/explanations/{found[0].explanation_id}/edit",
        f"/explanations/{found[0].explanation_id}/delete",
        f"/scores/{found[0].scores[0].score_id}",
        f"/scores/{hostile.scores[0].score_id}",
        f"/{MODEL_ID}/{SAE_ID}",
    )
    wear(page, planted, look)
    lines = {}
    for path in paths:
        page.goto(f"{planted.url}{path}")
        lines[path] = faults(page, axe)
    assert {path: found for path, found in lines.items() if found} == {}


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_no_page_of_explanations_scrolls_sideways(page: Page, planted, width):
    page.set_viewport_size({"width": width, "height": 800})
    with planted.scope() as session:
        (card, *_) = explanations.list_cards(session, feature(1))
    for path in (
        f"/{feature(1)}",
        f"/{feature(1)}/explain?preview=1",
        f"/{feature(0)}/compare",
        f"/explanations/{card.explanation_id}",
        f"/scores/{card.scores[0].score_id}",
    ):
        page.goto(f"{planted.url}{path}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, (path, wide)


def test_a_feature_is_explained_without_javascript(browser: Browser, planted):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{planted.list}/2/explain")
    page.locator("[name=by]").select_option(value="table")
    page.locator("[name=judge]").select_option(value="table")
    page.locator("#run").click()
    expect(page.locator("#steps .step.scored")).to_have_count(1, timeout=WORK_MS)
    page.get_by_role("link", name="The feature").click()
    page.locator(".explanation.foremost").get_by_role("link", name="Edit").click()
    page.locator("textarea[name=text]").fill("the token after a comma")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("the token after a comma")
    context.close()
