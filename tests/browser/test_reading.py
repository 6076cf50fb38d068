"""Reading features: from the list to a feature, its bands, its raw view, by mouse and by keys."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from app.web.tokens import text_of
from core.db.repositories import feature_pages
from core.domain.ids import FeatureId
from tests.support.builders import MODEL_ID, SAE_ID, TOKENS

pytestmark = pytest.mark.browser


def test_from_the_models_to_a_feature_and_back(page: Page, site):
    page.goto(site.url)
    page.get_by_role("link", name=SAE_ID).click()
    expect(page).to_have_url(site.list)
    page.get_by_role("link", name="Density", exact=True).click()
    expect(page).to_have_url(re.compile(r"sort=density&dir=desc"))
    first = page.locator("#features tbody tr").first
    index = first.locator(".c-index a").inner_text()
    first.locator(".c-index a").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Feature {index}")
    page.go_back()
    expect(page).to_have_url(re.compile(r"sort=density&dir=desc"))
    expect(page.locator("#features tbody tr").first).to_contain_text(index)


def test_a_band_is_chosen_without_loading_the_page_anew(page: Page, site):
    page.goto(site.feature)
    page.evaluate("window.mark = 1")
    page.locator(".contexts-head").get_by_role("link", name=re.compile("^All ")).click()
    expect(page).to_have_url(re.compile(r"band=all"))
    expect(page.locator(".contexts-head [aria-current]").first).to_contain_text("All")
    assert page.evaluate("window.mark") == 1
    page.go_back()
    expect(page.locator(".contexts-head [aria-current]").first).to_contain_text("Top")
    expect(page).to_have_url(site.feature)


def test_the_raw_view_shows_tokens_with_numbers_and_can_be_copied(page: Page, site):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(site.feature)
    page.get_by_role("link", name="Raw", exact=True).click()
    block = page.locator(".raw pre").first
    lines = (block.text_content() or "").splitlines()
    assert lines
    assert all(re.fullmatch(r".*\t(10|[0-9])", line) for line in lines)
    page.locator(".raw button").first.click()
    expect(page.locator(".toast")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == block.text_content()
    page.locator("summary", has_text="Display").click()
    page.get_by_role("link", name="Only above 0").click()
    expect(page).to_have_url(re.compile("nonzero=1"))
    shown = (page.locator(".raw pre").first.text_content() or "").splitlines()
    assert all(not line.endswith("\t0") for line in shown)


def test_the_text_of_every_row_is_exactly_the_text_of_its_bytes(page: Page, site):
    page.goto(f"{site.feature}?band=all&width=whole")
    with site.scope() as session:
        stored = feature_pages.feature_page(
            session, feature=FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)
        )
    for context in stored.contexts:
        row = page.locator(f"#c{context.context_index}-text")
        expected = text_of([TOKENS[i] for i in context.token_ids.tolist()])
        assert row.text_content() == expected


def test_a_selection_of_tokens_copies_their_exact_text(page: Page, site):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site.feature}?width=whole")
    row = page.locator(".tx").first
    row.evaluate(
        """row => { const range = document.createRange(); range.selectNodeContents(row);
        range.setStart(row.children[1], 0); const selection = getSelection();
        selection.removeAllRanges(); selection.addRange(range); }"""
    )
    page.keyboard.press("Control+c")
    expected = row.evaluate("row => [...row.children].slice(1).map(e => e.textContent).join('')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.replace("\r\n", "\n") == expected.replace("\r\n", "\n").replace("\r", "\r")


def test_a_context_has_a_link_of_its_own(page: Page, site):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(site.feature)
    row = page.locator(".ctx").nth(1)
    row.hover()
    row.get_by_role("link", name="Link to this context").click()
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto(link)
    expect(page.locator(".ctx:target")).to_have_id(link.rsplit("#", 1)[1])


def test_a_token_tells_its_activation_to_mouse_and_keys(page: Page, site):
    page.goto(site.feature)
    peak = page.locator(".tx .p").first
    peak.hover()
    tip = page.locator(".tip")
    value = float(page.locator(".ctx .peak > b").first.inner_text())
    expect(tip.locator("[data-tip=value]")).to_have_text(f"{value:.2f}")
    page.mouse.move(5, 5)
    page.keyboard.press("j")
    expect(page.locator(".ctx").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tx .on")).to_have_class(re.compile(r"\bp\b"))
    expect(tip).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".tx .on")).not_to_have_class(re.compile(r"\bp\b"))
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    page.keyboard.press("j")
    expect(page.locator(".ctx").nth(1)).to_be_focused()


def test_keys_move_between_features_and_bands_but_not_while_typing(page: Page, site):
    page.goto(site.feature)
    page.keyboard.press("]")
    expect(page).to_have_url(f"{site.list}/1")
    page.keyboard.press("[")
    expect(page).to_have_url(site.feature)
    page.keyboard.press("7")
    expect(page).to_have_url(re.compile("band=all"))
    page.keyboard.press("/")
    expect(page.locator("#jump")).to_be_focused()
    page.keyboard.type("2]")
    assert page.locator("#jump").input_value() == "2]"
    page.locator("#jump").fill("2")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.list}/2")


def test_the_list_of_keys_opens_and_closes(page: Page, site):
    page.goto(site.feature)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).not_to_be_visible()


def test_theme_and_language_are_kept(page: Page, site):
    page.goto(site.feature)
    page.get_by_role("button", name=re.compile("^Theme: as the system")).click()
    page.get_by_role("button", name=re.compile("^Theme: light")).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name=re.compile("中文")).click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page).to_have_url(site.feature)
    expect(page.get_by_text("激活语境")).to_be_visible()


def test_small_screens_have_a_menu(page: Page, site):
    page.set_viewport_size({"width": 420, "height": 800})
    page.goto(site.feature)
    page.locator(".nav-menu summary").click()
    page.locator(".nav-menu").get_by_role("link", name="Jobs").click()
    expect(page).to_have_url(f"{site.url}/jobs")


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_no_page_scrolls_sideways(page: Page, site, width):
    page.set_viewport_size({"width": width, "height": 800})
    for name, address in site.pages.items():
        if name not in {"missing", "filtered"}:
            page.goto(address)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (name, wide)


def test_everything_can_be_read_without_javascript(browser: Browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.feature)
    expect(page.locator(".ctx").first).to_be_visible()
    page.locator(".contexts-head").get_by_role("link", name=re.compile("^All ")).click()
    expect(page).to_have_url(re.compile("band=all"))
    page.goto(site.list)
    page.locator("[name=alive]").select_option("dead")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#features .pill.warn").first).to_be_visible()
    page.locator("button[name=theme]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    context.close()


def test_a_failure_is_told_in_a_toast(page: Page, site, quiet_console):
    page.goto(site.feature)
    page.route("**/*band=random*", lambda route: route.fulfill(status=500, body="x"))
    page.locator(".contexts-head").get_by_role("link", name=re.compile("^Random")).click()
    expect(page.locator(".toast")).to_contain_text("That did not work.")
    quiet_console[:] = [line for line in quiet_console if "500" not in line]
