"""Every page is free of accessibility faults in every look, and within its budget."""

import json

import pytest
from playwright.sync_api import Page

from core.jobs import control
from tests.browser.site import Site
from tests.support.jobs import job_spec

pytestmark = pytest.mark.browser

LOOKS = {"light": ("light", "en"), "dark": ("dark", "en"), "zh": ("light", "zh_CN")}


def wear(page: Page, site: Site, look: str) -> None:
    """Set theme and language."""
    theme, language = LOOKS[look]
    page.context.add_cookies(
        [
            {"name": "theme", "value": theme, "url": site.url},
            {"name": "lang", "value": language, "url": site.url},
        ]
    )


def faults(page: Page, axe: str) -> list[str]:
    """What axe finds on the page, one line each."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_a_fault(page: Page, site, axe, look, quiet_console):
    with site.scope() as session:
        job_id = control.submit(session, job_spec("work"))
        control.request_cancel(session, job_id)
    wear(page, site, look)
    found = {}
    for name, address in {**site.pages, "job": f"{site.url}/jobs/{job_id}"}.items():
        page.goto(address)
        found[name] = faults(page, axe)
    assert {name: lines for name, lines in found.items() if lines} == {}
    quiet_console[:] = [line for line in quiet_console if "404" not in line and "422" not in line]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_no_open_menu_or_dialog_has_a_fault(page: Page, site, axe, look):
    wear(page, site, look)
    page.goto(site.feature)
    page.locator("summary", has_text="Display").click()
    assert faults(page, axe) == []
    for menu in ("Python", "Cite"):
        page.locator("summary", has_text=menu).click()
        assert faults(page, axe) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert faults(page, axe) == []
    page.goto(f"{site.url}/api")
    page.locator("#list_features summary").click()
    assert faults(page, axe) == []


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_heat_level_can_be_read(page: Page, site, axe, look):
    wear(page, site, look)
    page.goto(site.feature)
    page.evaluate(
        """() => { const row = document.querySelector('.tx');
        for (const kind of ['h', 'n']) for (let level = 1; level <= 12; level++) {
          const token = document.createElement('i'); token.className = kind + level;
          token.textContent = ' level'; row.append(token); } }"""
    )
    assert faults(page, axe) == []


def test_a_feature_page_is_within_its_budget(page: Page, site):
    page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.goto(site.feature)
    page.wait_for_load_state("networkidle")
    entries = json.loads(
        page.evaluate(
            """JSON.stringify([...performance.getEntriesByType('navigation'),
            ...performance.getEntriesByType('resource')].map(e => [e.name, e.transferSize]))"""
        )
    )
    scripts = sum(size for name, size in entries if name.endswith(".js"))
    total = sum(size for _, size in entries)
    nodes = page.evaluate("document.querySelectorAll('*').length")
    assert scripts <= 60_000, scripts
    assert total <= 200_000, entries
    assert nodes <= 3_500, nodes
