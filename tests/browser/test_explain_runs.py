"""An endpoint connected, tested, used by a run that is costed, watched and read, in the browser."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.site import Site
from tests.browser.test_access import LOOKS, faults, wear
from tests.support.explain_runs import store_endpoint
from tests.support.jobs import worker_process
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.planted_harvest import publish_planted
from tests.support.scripted_model import ScriptedModel

pytestmark = pytest.mark.browser

WORK_MS = 120_000  # a worker and its runner start slowly on a loaded machine


@pytest.fixture(scope="module")
def server():
    model = LlmServer(ScriptedModel(RULES), latency=0.02, without=["/tokenize"])
    with serving(model) as running:
        yield running


@pytest.fixture(scope="module")
def planted(site):
    """Features with known rules."""
    with site.scope() as session:
        publish_planted(session, seed=12)
    return site


@pytest.fixture(scope="module")
def worker(site, database_url):
    """A real worker with the real runner."""
    with worker_process(database_url, site.data_dir, runner="worker.runner"):
        yield


def connect(page: Page, site: Site, server: LlmServer) -> None:
    """Fill in the form of an endpoint, save and test it."""
    page.goto(f"{site.url}/endpoints/new?preset=vllm")
    expect(page.locator("[name=base_url]")).to_have_value("http://localhost:8000/v1")
    page.locator("[name=name]").fill("scripted server")
    page.locator("[name=base_url]").fill(server.base_url)
    page.locator("[name=model]").fill("scripted")
    page.locator("[name=concurrency]").fill("8")
    page.locator("[name=price_prompt]").fill("1")
    page.locator("[name=price_completion]").fill("2")
    page.get_by_role("button", name="Save and test").click()


def test_from_an_endpoint_to_scores(page: Page, planted, server, worker):
    site = planted
    connect(page, site, server)
    expect(page).to_have_url(re.compile(r"/endpoints/\d+\?test=1$"))
    expect(page.locator("#abilities")).to_contain_text("answers as scripted", timeout=WORK_MS)
    expect(page.locator("#abilities .modes li").first).to_contain_text("all tokens at once")
    page.get_by_role("link", name="Explain features with it").click()
    expect(page).to_have_url(re.compile(r"/explanations/new\?endpoint="))
    estimate = page.locator("#estimate")
    expect(estimate).to_contain_text("4 to explain")
    page.locator("[name='features.by']").select_option("list")
    expect(page.locator("[name='features.n']")).not_to_be_visible()
    page.locator("[name='features.indices']").fill("0-1")
    page.locator("[name='features.indices']").blur()
    expect(estimate).to_contain_text("2 to explain")
    page.locator("[name='scorer.kinds'][value=detection]").check()
    page.locator("[name='budget.max_requests']").fill("5")
    page.locator("[name='budget.max_requests']").blur()
    expect(estimate).to_contain_text("more than the budget allows")
    page.locator("[name='budget.max_requests']").fill("500")
    page.locator("[name='budget.max_requests']").blur()
    expect(estimate).not_to_contain_text("more than the budget allows")
    page.get_by_role("button", name="Start the run").click()
    expect(page).to_have_url(re.compile(r"/explanations/runs/\d+$"))
    expect(page.locator("#status .pill")).to_contain_text("finished", timeout=WORK_MS)
    expect(page.locator("#totals")).to_contain_text("of 500 allowed")
    expect(page.locator("#scores")).to_contain_text("balanced accuracy")
    expect(page.locator("#scores .strip")).to_have_count(2)
    expect(page.locator("#log")).to_contain_text("scoring: 4 scores to make")
    expect(page.locator("#failures")).to_contain_text("Nothing has failed.")
    page.get_by_role("link", name="Explanations").first.click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    page.locator("#asked-words").fill("river")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_contain_text("the word river")


def test_a_stopped_run_goes_on_and_asks_nothing_twice(page: Page, planted, server, worker):
    store_endpoint(planted.scope, server, name="slow", concurrency=1)
    page.goto(f"{planted.url}/explanations/new")
    for side in ("explainer", "scorer"):
        page.locator(f"[name='{side}.endpoint']").select_option(label="slow · scripted")
    page.locator("[name='features.by']").select_option("all")
    page.locator("[name='scorer.mode']").select_option("schema")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#log")).to_contain_text("scoring", timeout=WORK_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".toast")).to_contain_text("The run stops")
    expect(page.locator("#status .pill")).to_contain_text("stopped", timeout=WORK_MS)
    page.locator("#resume").click()
    expect(page.locator("#status .pill")).to_contain_text("finished", timeout=WORK_MS)
    expect(page.locator("#status")).to_contain_text("Attempt 2")


def test_a_server_that_does_not_answer_is_told_in_words(page: Page, site):
    with serving(LlmServer(ScriptedModel(RULES))) as gone:
        endpoint = store_endpoint(site.scope, gone, name="gone", attempts=1)
    page.goto(f"{site.url}/endpoints/{endpoint}")
    page.locator("#test").click()
    expect(page.locator("#abilities .notice")).to_contain_text("The connection does not work")
    expect(page.locator("#abilities .notice")).to_contain_text("Check the address")


def test_the_forms_show_only_what_the_choices_ask_for(page: Page, planted):
    page.goto(f"{planted.url}/endpoints/new")
    expect(page.locator("[name=key_variable]")).not_to_be_visible()
    page.locator("[name=key_source]").select_option("environment")
    expect(page.locator("[name=key_variable]")).to_be_visible()
    expect(page.locator("[name=api_key]")).not_to_be_visible()
    page.goto(f"{planted.url}/explanations/new")
    page.locator("[name='scorer.endpoint']").select_option("none")
    expect(page.locator("[name='scorer.kinds'][value=simulation]")).not_to_be_visible()
    page.locator("[name='explainer.endpoint']").select_option("offline")
    expect(page.locator("[name='explainer.temperature']")).not_to_be_visible()


def test_everything_works_without_javascript(browser: Browser, planted, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{planted.url}/endpoints/new")
    page.locator("[name=name]").fill("plain")
    page.locator("[name=base_url]").fill(server.base_url)
    page.locator("[name=model]").fill("scripted")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("#abilities")).to_contain_text("answers as scripted")
    page.goto(f"{planted.url}/explanations/new")
    for side in ("explainer", "scorer"):
        page.locator(f"[name='{side}.endpoint']").select_option("offline")
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#estimate dl")).to_contain_text("nothing is sent")
    page.get_by_role("button", name="Start the run").click()
    expect(page).to_have_url(re.compile(r"/explanations/runs/\d+$"))
    expect(page.locator("#status")).to_be_visible()
    context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_of_runs_and_endpoints_has_a_fault(
    page: Page, planted, server, axe, look, quiet_console
):
    name = f"looked at in {look}"
    endpoint = store_endpoint(planted.scope, server, name=name)
    wear(page, planted, look)
    page.goto(f"{planted.url}/explanations")
    runs = page.locator("#runs tbody tr td:first-child a").all()
    addresses = {
        "overview": "/explanations?q=river",
        "new": "/explanations/new",
        "endpoints": "/endpoints",
        "endpoint": f"/endpoints/{endpoint}",
        "new endpoint": "/endpoints/new?preset=openai",
        **({"run": runs[-1].get_attribute("href")} if runs else {}),
    }
    found = {}
    for key, path in addresses.items():
        page.goto(f"{planted.url}{path}")
        found[key] = faults(page, axe)
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        found[key] += ["wider than the window"] if wide else []
    page.goto(f"{planted.url}/explanations/new")
    page.locator("[name='features.by']").select_option("list")
    page.locator("[name='features.indices']").fill("x")
    page.locator(".big").click()
    found["wrong"] = faults(page, axe)
    assert {key: lines for key, lines in found.items() if lines} == {}
    quiet_console[:] = [line for line in quiet_console if "422" not in line]
