"""A real tiny run in the browser: watched, stopped, resumed, compared, and what it moved."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from core.jobs import control
from tests.browser.test_access import LOOKS, faults, wear
from tests.support.jobs import wait_for, wait_for_end, worker_process
from tests.support.tiny_world import MODEL_ID, SAE_ID, write_world

pytestmark = pytest.mark.browser

SLOW_MS = 120_000  # a worker and its runners start slowly on a loaded machine
STEPS_DRAWN = """() => {
  const found = document.querySelector('live-plots').plots[0].plot?.data[0] ?? [];
  return found[found.length - 1] ?? -1;
}"""
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def drawn(page: Page, enough: Callable[[float], bool]) -> None:
    """Wait until the plots show enough steps; the page's policy lets no text be run in it."""
    wait_for(
        lambda: enough(page.evaluate(STEPS_DRAWN)),
        seconds=SLOW_MS / 1000,
        what="steps in the plots",
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, an SAE, pairs and a corpus."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def worker(site, database_url):
    """A real worker with real runners."""
    with worker_process(database_url, site.data_dir, runner="worker.runner"):
        yield


@pytest.fixture(scope="module")
def harvest(site, worker, world):
    """The features of the model on the corpus."""
    with site.scope() as session:
        job_id = control.submit(session, world.harvest())
    assert wait_for_end(site.scope, job_id, seconds=180).error_message is None
    return job_id


@pytest.fixture(scope="module")
def finished(site, worker, world, harvest):
    """Two finished runs of different methods."""
    found = []
    for method in ("fpo", "simpo"):
        with site.scope() as session:
            spec = world.run(method, measured=method == "simpo")
            found.append(control.submit(session, spec))
    for job_id in found:
        assert wait_for_end(site.scope, job_id, seconds=180).error_message is None
    return tuple(found)


def test_a_run_is_watched_hidden_stopped_resumed_and_finished(page: Page, site, worker, world):
    streams: list[Request] = []
    page.on("request", lambda r: streams.append(r) if "/live" in r.url else None)
    with site.scope() as session:
        job_id = control.submit(session, world.run(steps=700))
    page.goto(f"{site.url}/align/{job_id}")
    state = page.locator("#run-state .pill").nth(1)
    expect(state).to_contain_text("running", timeout=SLOW_MS)
    drawn(page, lambda step: step >= 10)
    expect(page.locator("#run-stats")).to_contain_text("at the start")
    expect(page.locator("#moved-most tbody tr").first).to_be_visible()
    page.evaluate(HIDE, arg=True)
    page.wait_for_timeout(1_500)
    before = page.evaluate(STEPS_DRAWN)
    page.wait_for_timeout(1_000)
    assert page.evaluate(STEPS_DRAWN) == before
    page.evaluate(HIDE, arg=False)
    drawn(page, lambda step: step > before + 5)
    assert "last-event-id" in streams[-1].headers
    page.locator("#stop").click()
    page.wait_for_timeout(2_000)  # the question stays open while the page around it changes
    held: list[Route] = []
    page.route("**/stop", lambda route: held.append(route))
    with page.expect_request("**/stop"):
        page.get_by_role("button", name="Stop the run").click()
    answer = held[0].fetch()
    expect(state).to_contain_text("stopped", timeout=SLOW_MS)
    held[0].fulfill(response=answer)  # later than the end that it leads to
    expect(page.locator(".toast")).to_contain_text("The run stops at its next step")
    expect(state).to_contain_text("stopped")
    stopped = page.evaluate(STEPS_DRAWN)
    assert stopped < 700
    page.get_by_role("button", name="Resume").click()
    expect(state).to_contain_text("finished", timeout=SLOW_MS)
    drawn(page, lambda step: step == 700)
    steps = page.evaluate("document.querySelector('live-plots').plots[0].plot.data[0]")
    assert steps == list(range(701))
    expect(page.locator("#run-state")).to_contain_text("Attempt")


def test_a_part_of_the_steps_is_looked_at_in_all_plots_at_once(page: Page, site, finished):
    page.goto(f"{site.url}/align/{finished[0]}")
    page.wait_for_selector("live-plots[data-drawn]")
    reset = page.get_by_role("button", name="Show all")
    expect(reset).not_to_be_visible()
    area = page.locator(".u-over").first
    box = area.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    expect(page.locator("[data-place]")).to_contain_text("step")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=5)
    page.mouse.up()
    expect(reset).to_be_visible()
    ranges = """[...document.querySelectorAll('live-plots')][0].plots
      .map(p => [p.plot.scales.x.min, p.plot.scales.x.max])"""
    first, *others = page.evaluate(ranges)
    assert 0 < first[0] < first[1] < 12
    assert all(other == pytest.approx(first, abs=0.5) for other in others)
    reset.click()
    assert page.evaluate(ranges)[-1] == [0, 12]
    expect(reset).not_to_be_visible()


def test_a_short_course_ends_where_the_legend_says(page: Page, site, finished):
    page.goto(f"{site.url}/align/{finished[0]}")
    page.wait_for_selector("live-plots[data-drawn]")
    loss = page.evaluate("document.querySelector('live-plots').plots[0].plot.data.slice(1, 3)")
    assert len([value for value in loss[0] if value is not None]) == 12
    assert loss[0] == loss[1]  # smoothed, twelve steps would end elsewhere


def test_colours_follow_the_theme(page: Page, site, finished):
    page.emulate_media(color_scheme="light")
    page.goto(f"{site.url}/align/{finished[0]}")
    page.wait_for_selector("live-plots[data-drawn]")
    colour = "document.querySelector('live-plots').plots[0].colours[0]"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    wait_for(lambda: page.evaluate(colour) != light, what="other colours")


def test_from_the_list_to_a_comparison(page: Page, site, finished):
    page.goto(f"{site.url}/align")
    for job_id in finished:
        page.locator(f"[name=run][value='{job_id}']").check()
    page.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(re.compile(r"/align/compare\?run="))
    page.wait_for_selector("live-plots[data-drawn]")
    expect(page.locator("code", has_text="aligned_id")).to_be_visible()
    expect(page.locator(".final-table").first).to_contain_text("eval_preference_accuracy")


def test_from_a_run_to_what_it_moved_and_to_a_feature_and_back(page: Page, site, finished):
    job_id = finished[0]
    page.goto(f"{site.url}/align/{job_id}")
    page.get_by_role("link", name="What moved", exact=True).click()
    page.get_by_role("button", name="Measure what moved").click()
    expect(page.locator("#moved-features tbody tr").first).to_be_visible(timeout=SLOW_MS)
    page.get_by_role("link", name="corpus").first.click()
    expect(page).to_have_url(re.compile("sort=corpus"))
    page.locator("#moved-features tbody a").first.click()
    expect(page).to_have_url(re.compile(rf"/{MODEL_ID}/{SAE_ID}/\d+\?run={job_id}&show=delta"))
    switch = page.get_by_role("navigation", name="Model")
    expect(switch.get_by_role("link", name="Δ")).to_have_attribute("aria-current", "true")
    expect(page.locator(".tx [class^=h], .tx [class^=n]").first).to_be_visible()
    switch.get_by_role("link", name="After FPO").click()
    expect(page).to_have_url(re.compile("show=aligned"))
    switch.get_by_role("link", name="Base").click()
    expect(page).not_to_have_url(re.compile("show="))
    page.get_by_role("link", name=f"FPO #{job_id}").click()
    expect(page).to_have_url(re.compile(rf"/align/{job_id}/moved"))
    page.get_by_role("link", name="Samples").click()
    expect(page.locator(".sample").first).to_be_visible()


def test_a_run_that_is_measured_by_itself_shows_its_progress_and_then_its_samples(
    page: Page, site, finished
):
    page.goto(f"{site.url}/align/{finished[1]}/samples")
    expect(page.locator(".sample").first).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#measuring")).to_have_count(0)
    page.locator("summary", has_text="Write other samples").click()
    page.locator("[name=n_prompts]").fill("2")
    page.locator("[name=temperature]").fill("1.5")
    page.get_by_role("button", name="Measure again").click()
    expect(page.locator(".sample")).to_have_count(2, timeout=SLOW_MS)
    expect(page.locator(".job-facts")).to_contain_text("1.5")


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_of_runs_has_a_fault(page: Page, site, axe, look, finished):
    wear(page, site, look)
    one, other = finished
    paths = [
        "/align",
        f"/align/{one}",
        f"/align/compare?run={one}&run={other}",
        "/align/compare",
        f"/align/{one}/moved",
        f"/align/{other}/moved",
        f"/align/{one}/samples",
        f"/jobs/{one}",
    ]
    found = {}
    for path in paths:
        page.goto(site.url + path)
        if page.locator("live-plots").count():
            page.wait_for_selector("live-plots[data-drawn]")
        found[path] = faults(page, axe)
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_no_page_of_runs_scrolls_sideways(page: Page, site, width, finished):
    page.set_viewport_size({"width": width, "height": 800})
    one, other = finished
    for path in (f"/align/{one}", f"/align/compare?run={one}&run={other}", f"/align/{one}/moved"):
        page.goto(site.url + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_run_can_be_read_without_javascript(browser: Browser, site, finished):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/align/{finished[0]}")
    expect(page.locator(".plot").first.locator("polyline").first).to_be_visible()
    assert page.locator(".plot [data-value]").first.inner_text() != "–"
    page.goto(f"{site.url}/align")
    for job_id in finished:
        page.locator(f"[name=run][value='{job_id}']").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".plot polyline").first).to_be_visible()
    context.close()


def test_one_more_look_at_a_running_run_costs_no_second_stream(page: Page, site, worker, world):
    streams: list[Request] = []
    page.on("request", lambda r: streams.append(r) if "/live" in r.url else None)
    with site.scope() as session:
        job_id = control.submit(session, world.run(steps=300))
    page.goto(f"{site.url}/align/{job_id}")
    drawn(page, lambda step: step >= 20)
    assert len(streams) == 1
    page.locator("#stop").click()
    page.get_by_role("button", name="Stop the run").click()
    expect(page.locator("#resume")).to_be_visible(timeout=SLOW_MS)
