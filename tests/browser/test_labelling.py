"""Labelling in the browser: named, tagged, filtered, constrained; with and without scripts."""

import re

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from app.services.labels import labels
from app.services.preferences.pages import demo_card
from core.db.repositories import contrasts
from core.domain.align_results import ContrastSaeResult, ContrastValues
from core.domain.ids import FeatureId
from tests.browser.site import Site
from tests.browser.test_access import LOOKS, faults, wear
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.explained import HOSTILE_TEXT
from tests.support.told_drifts import publish_drift
from tests.support.told_runs import told_run

pytestmark = pytest.mark.browser

N_FEATURES = 24


def feature(index: int) -> FeatureId:
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


def save(site: Site, index: int, **text: object) -> None:
    with site.scope() as session:
        labels.save(session, feature(index), version=None, **text)  # type: ignore[arg-type]  # the caller knows the names


def open_feature(page: Page, site: Site, index: int) -> None:
    """A feature's page once its links act in place."""
    page.goto(f"{site.list}/{index}")
    expect(page.locator("#feature-label [data-htmx-powered]").first).to_be_attached()


@pytest.fixture(scope="module")
def told(site):
    """A run that was measured, and a contrast of the shipped set; both of the sample's SAE."""
    rng = np.random.default_rng(0)
    chosen, rejected = rng.random(N_FEATURES), rng.random(N_FEATURES)
    values = ContrastValues(
        mean_chosen=chosen,
        mean_rejected=rejected,
        difference=chosen - rejected,
        effect_size=(chosen - rejected) * 3,
        share_chosen=np.full(N_FEATURES, 0.5),
        share_rejected=np.full(N_FEATURES, 0.5),
        density=np.full(N_FEATURES, 0.1),
    )
    sae = ContrastSaeResult(
        sae_id=SAE_ID,
        revision="sae-1",
        hook_name="blocks.1.hook_resid_post",
        layer=1,
        values=values,
    )
    with site.scope() as session:
        run_id = told_run(session, "fpo", steps=40)
        publish_drift(session, run_job_id=run_id, harvest_id=1)
        contrasts.publish(
            session,
            job_id=None,
            identity="labelling",
            model_id=MODEL_ID,
            model_revision="weights-1",
            preference_name="demo",
            preference_hash=demo_card().content_hash,
            n_pairs=24,
            n_tokens_chosen=240,
            n_tokens_rejected=240,
            spec={},
            saes=[sae],
        )
    return run_id


def test_a_feature_is_named_tagged_filtered_and_held(page: Page, site, told):
    open_feature(page, site, 0)
    page.keyboard.press("l")
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    name.fill("rivers and lakes")
    page.get_by_label("Tags", exact=True).fill("Water, made up")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_label("Your name").press("Enter")
    expect(page.locator("#headline .named")).to_have_text("rivers and lakes")
    expect(page.locator("#feature-label")).to_contain_text("Ann")
    page.locator("#feature-label").get_by_role("link", name="made-up").click()
    expect(page).to_have_url(re.compile(r"tags=made-up"))
    rows = page.locator("#features tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("rivers and lakes")
    page.get_by_label("Choose feature 0").check()
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator("[name='constraint.0.held']")).to_have_value("0")
    expect(page.locator(".chosen-list")).to_contain_text("rivers and lakes")


def test_tags_are_completed_after_those_that_stand_there(page: Page, site):
    save(site, 1, name="one", tags=["sycophancy", "tone"])
    open_feature(page, site, 2)
    page.keyboard.press("l")
    field = page.get_by_label("Tags", exact=True)
    expect(page.locator("#label-tags-names option").first).to_be_attached()
    field.press_sequentially("tone, sy")
    options = page.locator("#label-tags-names option")
    expect(options.filter(has_not_text="never").nth(0)).to_be_attached()
    values = options.evaluate_all("found => found.filter(o => !o.disabled).map(o => o.value)")
    assert "tone, sycophancy" in values


def test_two_who_write_at_once_lose_nothing(page: Page, site, quiet_console):
    save(site, 4, name="", tags=[])
    open_feature(page, site, 4)
    page.keyboard.press("l")
    page.get_by_label("Name", exact=True).fill("my words")
    save(site, 4, name="their words", tags=["theirs"], author="Bo")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#present-label")).to_contain_text("their words")
    expect(page.get_by_label("Name", exact=True)).to_have_value("my words")
    quiet_console[:] = [line for line in quiet_console if "409" not in line]
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#headline .named")).to_have_text("my words")
    page.get_by_role("link", name=re.compile("changes")).click()
    row = page.get_by_role("row").filter(has_text="their words")
    row.get_by_role("button", name="Bring back").click()
    expect(page.locator("#headline .named")).to_have_text("their words")


def test_what_has_to_be_mended_is_told_in_place(page: Page, site, quiet_console):
    open_feature(page, site, 5)
    page.keyboard.press("l")
    page.get_by_label("Tags", exact=True).fill("a/b")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#problem-tags")).to_contain_text("is not a tag")
    expect(page.get_by_label("Tags", exact=True)).to_have_value("a/b")
    quiet_console[:] = [line for line in quiet_console if "422" not in line]


def test_ticked_features_are_tagged_in_place(page: Page, site):
    page.goto(site.list)
    expect(page.locator("#features button[data-htmx-powered]").first).to_be_attached()
    for index in (6, 7):
        page.get_by_label(f"Choose feature {index}", exact=True).check()
    page.get_by_label("Tags for the ticked features").fill("bulk")
    page.get_by_role("button", name="Add the tag").click()
    expect(page.get_by_role("status").filter(has_text="2 features changed")).to_be_visible()
    expect(page.locator("#features .tag", has_text="bulk")).to_have_count(2)


def test_the_first_of_a_contrast_and_of_what_moved_are_tagged(page: Page, site, told):
    page.goto(f"{site.url}/preferences/demo/contrast?sae={SAE_ID}")
    page.get_by_label("Tags for the ticked features").fill("differ")
    page.get_by_label("and so many of the first of this order").fill("3")
    page.get_by_role("button", name="Add the tag").click()
    expect(page.locator(".contrast-table .tag", has_text="differ")).to_have_count(3)
    page.goto(f"{site.url}/align/{told}/moved")
    expect(page.locator("#moved button[data-htmx-powered]").first).to_be_attached()
    page.get_by_label("Tags for the ticked features").fill("moved")
    page.get_by_label("and so many of the first of this order").fill("2")
    page.get_by_role("button", name="Add the tag").click()
    expect(page.locator("#moved .tag", has_text="moved")).to_have_count(2)
    page.goto(f"{site.url}/align/{told}/moved?tags=moved")
    expect(page.locator("#moved-features tbody tr")).to_have_count(2)


def test_all_of_this_works_without_scripts(browser: Browser, site):
    context = browser.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(f"{site.list}/8")
    page.get_by_role("link", name="Label this feature").click()
    page.get_by_label("Name", exact=True).fill("plain name")
    page.get_by_label("Tags", exact=True).fill("plain")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#headline .named")).to_have_text("plain name")
    page.goto(site.list)
    page.get_by_label("Choose feature 9", exact=True).check()
    page.get_by_label("Tags for the ticked features").fill("plain")
    page.get_by_role("button", name="Add the tag").click()
    expect(page.locator(".done")).to_contain_text("1 feature changed")
    page.goto(f"{site.list}?tags=plain")
    page.get_by_role("link", name="Tag all that match").click()
    page.get_by_label("Tags", exact=True).fill("all-of-them")
    page.get_by_role("button", name="Tag 2 features").click()
    expect(page.locator(".tag", has_text="all-of-them")).to_have_count(2)
    page.goto(f"{site.url}/tags/all-of-them")
    page.locator("summary", has_text="Delete this tag").click()
    context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_of_labels_has_a_fault(page: Page, site, told, axe, look):
    save(
        site, 10, name=HOSTILE_TEXT[:110], note=HOSTILE_TEXT, tags=["hostile", "语气"], author="<b>"
    )
    wear(page, site, look)
    pages = {
        "feature": f"{site.list}/10",
        "list": f"{site.list}?words=script",
        "history": f"{site.list}/10/label",
        "delete": f"{site.list}/10/label/delete",
        "edit": f"{site.list}/10/label/edit",
        "all": f"{site.list}/tag?tags=hostile",
        "tags": f"{site.url}/tags",
        "tag": f"{site.url}/tags/hostile",
        "import": f"{site.url}/labels/import",
        "moved": f"{site.url}/align/{told}/moved",
        "contrast": f"{site.url}/preferences/demo/contrast",
        "run": f"{site.url}/align/{told}",
        "new": f"{site.url}/align/new?tag=hostile&sae={MODEL_ID}/{SAE_ID}&treat=held",
    }
    found = {}
    for name, address in pages.items():
        page.goto(address)
        found[name] = faults(page, axe)
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_form_in_place_has_no_fault_and_nothing_overflows_a_phone(page: Page, site, axe):
    page.set_viewport_size({"width": 420, "height": 900})
    save(site, 11, name="a " + "long" * 25, tags=["x" * 40, "y" * 40])
    open_feature(page, site, 11)
    page.keyboard.press("l")
    expect(page.locator("form#feature-label")).to_be_visible()
    assert faults(page, axe) == []
    for address in (f"{site.list}/11", f"{site.list}/11/label", site.list, f"{site.url}/tags"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
