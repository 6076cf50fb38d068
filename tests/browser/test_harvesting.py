"""Starting a harvest in the browser, watching it, stopping it, letting it go on."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.site import Site
from tests.support.jobs import worker_process

pytestmark = pytest.mark.browser

WORKER_MS = 90_000  # a worker and its runners start slowly on a loaded machine


@pytest.fixture(scope="module")
def worker(site, database_url):
    """A real worker whose runner does what the settings say, without a model."""
    with worker_process(database_url, site.data_dir):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, an SAE and a corpus that pass the form's look at them."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"hidden_size": 8, "num_hidden_layers": 2}')
    (folder / "sae").mkdir()
    (folder / "sae" / "cfg.json").write_text(
        '{"d_in": 8, "d_sae": 16, "hook_name": "blocks.1.hook_resid_post", "architecture": "relu"}'
    )
    (folder / "corpus.txt").write_text("Some text. " * 200)
    return folder


def fill(page: Page, site: Site, files, *, behaviour: str = "work", items: int = 20) -> None:
    """Fill in the form; the test's runner reads the settings as knobs."""
    page.goto(f"{site.url}/jobs/new?preset=own")
    page.locator("[name='model.kind']").select_option("folder")
    page.locator("[name='model.location']").fill(str(files / "model"))
    page.locator("[name=model_id]").fill(behaviour)
    page.locator("[name='saes.0.source.kind']").select_option("folder")
    page.locator("[name='saes.0.source.location']").fill(str(files / "sae"))
    page.locator("[name='saes.0.sae_id']").fill("1-mine")
    page.locator("[name='corpus.path']").fill(str(files / "corpus.txt"))
    page.locator(".advanced summary").click()
    page.locator("[name=n_top]").fill(str(items))
    page.locator("[name=tile_contexts]").fill("150")


def test_a_harvest_is_started_watched_stopped_and_goes_on(page: Page, site, files, worker):
    fill(page, site, files)
    page.get_by_role("button", name="Start the harvest").click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator("#status .pill")).to_contain_text("running", timeout=WORKER_MS)
    expect(page.locator("#log")).to_contain_text("item 2 done", timeout=WORKER_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".toast")).to_contain_text("The job stops")
    expect(page.locator("#status .pill")).to_contain_text("stopped", timeout=WORKER_MS)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#status .pill")).to_contain_text("running", timeout=WORKER_MS)
    expect(page.locator("#status .job-facts")).to_contain_text("Attempt 2")
    expect(page.locator("#status .pill")).to_contain_text("finished", timeout=WORKER_MS)
    lines = page.locator("#log li").all_inner_texts()
    done = [line.split("item ")[1] for line in lines if "item " in line]
    assert len(done) == len(set(done))


def test_an_answer_that_comes_after_the_end_leaves_the_end_shown(page: Page, site, files, worker):
    fill(page, site, files)
    page.get_by_role("button", name="Start the harvest").click()
    expect(page.locator("#log")).to_contain_text("item 2 done", timeout=WORKER_MS)
    held = []
    page.route("**/cancel", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status .pill")).to_contain_text("stopped", timeout=WORKER_MS)
    ((route, answer),) = held
    route.fulfill(response=answer)
    expect(page.locator(".toast")).to_contain_text("The job stops")
    expect(page.locator("#status .pill")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_a_failure_is_told_in_words_with_what_to_do(page: Page, site, files, worker):
    fill(page, site, files, behaviour="invalid")
    page.get_by_role("button", name="Start the harvest").click()
    expect(page.locator("#status .notice")).to_contain_text(
        "The width is wrong.", timeout=WORKER_MS
    )
    expect(page.locator("#status .notice")).to_contain_text("Take another SAE.")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_the_estimate_follows_the_form(page: Page, site, files):
    fill(page, site, files)
    expect(page.locator("#estimate dl")).to_be_visible()
    expect(page.locator("#estimate")).to_contain_text("16")
    page.locator("[name='corpus.path']").fill("/no/such/file.txt")
    page.locator("[name='corpus.path']").blur()
    expect(page.locator("#estimate")).to_contain_text("There is no file /no/such/file.txt.")


def test_what_was_typed_wrong_is_kept_and_told_beside_its_field(
    page: Page, site, files, quiet_console
):
    fill(page, site, files)
    page.locator("[name='corpus.path']").fill("/no/such/file.txt")
    page.get_by_role("button", name="Start the harvest").click()
    field = page.locator("[name='corpus.path']")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("/no/such/file.txt")
    expect(page.locator("#problem-corpus-path")).to_contain_text("There is no file")
    expect(page.locator("[name='model.location']")).to_have_value(str(files / "model"))
    quiet_console[:] = [line for line in quiet_console if "422" not in line]


def test_only_the_fields_of_the_chosen_corpus_are_shown(page: Page, site):
    page.goto(f"{site.url}/jobs/new?preset=own")
    expect(page.locator("[name='corpus.path']")).to_be_visible()
    expect(page.locator("[name='corpus.name']")).not_to_be_visible()
    page.locator("[name='corpus.kind']").select_option("hub")
    expect(page.locator("[name='corpus.path']")).not_to_be_visible()
    expect(page.locator("[name='corpus.name']")).to_be_visible()


def test_a_harvest_can_be_started_and_read_without_javascript(browser: Browser, site, files):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    fill(page, site, files, items=1)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#estimate dl")).to_be_visible()
    page.get_by_role("button", name="Start the harvest").click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator("#status")).to_be_visible()
    page.goto(f"{site.url}/jobs")
    expect(page.locator("#jobs tbody tr").first).to_be_visible()
    context.close()
