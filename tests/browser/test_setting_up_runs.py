"""From a file of pairs to a run: upload, report, contrast, chosen features, checks, start."""

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from app.services.preferences import pages as preference_pages
from core.db.repositories import jobs
from core.domain.align_jobs import AlignCheckSpec, FetchSpec
from core.domain.alignment import AlignSpec, ConstraintSae, HeldFeature, StoredPreferences
from core.domain.job import parse_spec
from core.interchange.preference_store import upload_rows
from core.interchange.preferences import preference_lines
from tests.browser.site import Site
from tests.browser.test_access import LOOKS, faults, wear
from tests.support.launching import make_world, publish_contrast
from tests.support.pairs import some_pairs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def world(site, tmp_path_factory):
    """A known model with an SAE."""
    return make_world(site.scope, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    """Thirty good rows and four that cannot be used."""
    lines = list(preference_lines(some_pairs(24, 6)))
    bad = ['{"prompt": "x", "chosen": "a"}', "{broken", lines[0], "[1, 2]"]
    path = tmp_path_factory.mktemp("pairs") / "mine.jsonl"
    path.write_text("\n".join([*lines, *bad]), encoding="utf-8")
    return path


def upload(page: Page, site: Site, path) -> None:
    page.goto(f"{site.url}/preferences/new")
    page.get_by_label("File", exact=True).set_input_files(str(path))
    page.get_by_role("button", name="Read and report").first.click()
    expect(page).to_have_url(re.compile(r"/preferences/uploads/[0-9a-f]{32}"))


def card_of(site: Site, url: str):
    with site.scope() as session:
        return preference_pages.get_card(session, int(url.rpartition("/")[2]))


def test_from_a_file_to_a_run_with_chosen_features(page: Page, site, world, pairs_file):
    upload(page, site, pairs_file)
    expect(page.locator(".stats")).to_contain_text("34")
    expect(page.locator("#rejected")).to_contain_text("No field 'rejected'.")
    expect(page.locator("#rejected tbody tr")).to_have_count(4)
    page.get_by_role("link", name=re.compile("duplicate")).click()
    expect(page.locator("#rejected tbody tr")).to_have_count(1)
    page.get_by_label("Name").fill("Direct, mine")
    page.get_by_role("button", name="Save 30 pairs").click()
    expect(page).to_have_url(re.compile(r"/preferences/\d+$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Direct, mine")
    expect(page.locator(".preference mark").first).to_be_visible()
    card = card_of(site, page.url)

    publish_contrast(site.scope, world, card)
    page.goto(f"{page.url}/contrast")
    page.get_by_label("Choose feature 2", exact=True).check()
    page.get_by_label("Choose feature 5", exact=True).check()
    page.get_by_role("button", name="Hold only these").click()
    expect(page).to_have_url(re.compile(r"/align/new\?"))
    expect(page.locator("[name='constraint.0.held']")).to_have_value("2, 5")
    expect(page.locator("[name='constraint.0.others']")).to_have_value("0")
    expect(page.locator("[name='data.content_hash']")).to_have_value(card.content_hash)

    page.locator("[name=aligned_id]").fill("launch-lm-direct")
    page.locator("[name='training.optimizer.warmup_steps']").fill("0")
    page.locator("[name='constraint.0.k']").fill("8")
    page.locator("[name='constraint.0.k']").blur()
    side = page.locator("#launch-checks")
    expect(side).to_contain_text("24 to train on, 6 held out.")
    expect(side).to_contain_text("1-launch-res: 2 held, 0 free, all others with weight 0.")
    expect(side).to_contain_text("all passed")
    page.get_by_role("button", name="Start the run").click()
    expect(page).to_have_url(re.compile(r"/align/\d+$"))
    with site.scope() as session:
        spec = AlignSpec.model_validate(jobs.get_spec(session, int(page.url.rpartition("/")[2])))
    assert spec.data == StoredPreferences(content_hash=card.content_hash, name="Direct, mine")
    assert (spec.model_id, spec.model, spec.method) == (world.model_id, world.model, "fpo")
    assert spec.aligned_id == "launch-lm-direct"
    assert spec.constraint == (
        ConstraintSae(
            sae_id=world.sae_id,
            source=world.sae,
            k=8,
            others=0.0,
            held=(HeldFeature(feature=2), HeldFeature(feature=5)),
        ),
    )


def test_a_dataset_is_fetched_while_one_watches_and_its_report_comes_by_itself(
    page: Page, site, world, axe, quiet_console
):
    page.goto(f"{site.url}/preferences/new")
    form = page.get_by_role("form", name="Fetch a dataset of the Hugging Face hub")
    form.get_by_label("Dataset").fill("owner/pairs")
    form.get_by_role("button", name="Fetch and report").click()
    expect(page.locator("#fetching")).to_contain_text("waits for a free worker")
    assert faults(page, axe) == []
    with site.scope() as session:
        card = jobs.list_jobs(session, kind="fetch", limit=1)[0]
        spec = parse_spec(jobs.get_spec(session, card.job_id))
    assert isinstance(spec, FetchSpec)
    place = upload_rows(site.data_dir, spec.upload)
    half = place.with_name(".half")
    half.mkdir()
    lines = preference_lines(some_pairs(8, 2))
    (half / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    half.rename(place)
    expect(page.get_by_role("button", name="Save 10 pairs")).to_be_visible()
    expect(page).to_have_url(re.compile(rf"/preferences/uploads/{spec.upload}$"))


def test_enter_in_a_field_takes_nothing_away(page: Page, site, world):
    page.goto(f"{site.url}/align/new?treat=held&feature={world.model_id}/{world.sae_id}/3")
    page.locator("[name=aligned_id]").fill("entered")
    page.locator("[name=aligned_id]").press("Enter")
    expect(page).to_have_url(re.compile(r"/align/new$"))
    expect(page.locator("[name='constraint.0.held']")).to_have_value("3")
    expect(page.locator("[name=aligned_id]")).to_have_value("entered")


def test_only_the_fields_of_the_chosen_method_are_shown(page: Page, site, world):
    page.goto(f"{site.url}/align/new?model=model:{world.model_id}")
    shown = {
        "fpo": ("beta", "alpha"),
        "dpo": ("beta",),
        "simpo": ("beta", "gamma"),
        "tdpo1": ("beta",),
        "tdpo2": ("beta", "alpha"),
    }
    for method, fields in shown.items():
        page.locator(f"[name=method][value={method}]").check()
        for name in ("beta", "alpha", "gamma"):
            field = page.locator(f"[name={name}]")
            (expect(field).to_be_visible if name in fields else expect(field).not_to_be_visible)()
    expect(page.get_by_text("Features to report", exact=True)).to_be_visible()
    page.locator("[name='training.lora.on'][type=checkbox]").check()
    expect(page.locator("[name='training.lora.rank']")).to_be_visible()


def test_what_is_wrong_shows_at_once_and_is_kept_when_sent(page: Page, site, world, quiet_console):
    page.goto(f"{site.url}/align/new?model=model:{world.model_id}")
    page.locator("[name='training.batch_size']").fill("-3")
    page.locator("[name='training.batch_size']").blur()
    expect(page.locator("#launch-checks")).to_contain_text("training.batch_size")
    page.get_by_role("button", name="Start the run").click()
    field = page.locator("[name='training.batch_size']")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("-3")
    expect(page.locator("#problem-training-batch_size")).to_have_text("Write 1 or more.")
    quiet_console[:] = [line for line in quiet_console if "422" not in line]


def test_layers_are_picked_on_their_page(page: Page, site, world):
    page.goto(f"{site.url}/align/new?preset=own&model=model:{world.model_id}")
    page.locator("[name=beta]").fill("0.3")
    page.get_by_role("button", name="Pick layers").click()
    row = page.locator("tr", has_text=world.sae_id)
    expect(row).to_contain_text("0.800")
    expect(row).to_contain_text("97%")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Use the ticked layers").click()
    expect(page.locator("[name='constraint.0.pick']")).to_have_value(
        f"{world.model_id}/{world.sae_id}"
    )
    expect(page.locator("[name=beta]")).to_have_value("0.3")


def test_a_few_steps_are_measured_in_place(page: Page, site, world):
    page.goto(f"{site.url}/align/new?preset=own&model=model:{world.model_id}")
    page.locator("[name=aligned_id]").fill("measured")
    page.locator("[name=aligned_id]").blur()
    page.get_by_role("button", name="Measure a few steps").click()
    expect(page.locator("#measure")).to_contain_text("queued")
    job_id = int(page.locator("[name=measure_job]").input_value())
    with site.scope() as session:
        spec = AlignCheckSpec.model_validate(jobs.get_spec(session, job_id))
    assert spec.run.model_id == world.model_id
    expect(page.locator("[name=aligned_id]")).to_have_value("measured")


def test_a_config_file_is_downloaded_and_fills_the_form(page: Page, site, world, tmp_path):
    page.goto(f"{site.url}/align/new?preset=own&model=model:{world.model_id}")
    page.locator("[name=aligned_id]").fill("from-file")
    page.locator("[name=beta]").fill("0.25")
    page.locator("[name=beta]").blur()
    button = page.get_by_role("button", name="JSON")
    expect(button).to_be_enabled()
    with page.expect_download() as download:
        button.click()
    path = tmp_path / "run.json"
    download.value.save_as(path)
    assert json.loads(path.read_text())["beta"] == 0.25
    page.goto(f"{site.url}/align/new")
    page.locator("summary", has_text="From a config file").click()
    page.locator("#config").set_input_files(str(path))
    page.get_by_role("button", name="Fill the form with it").click()
    expect(page.locator("[name=aligned_id]")).to_have_value("from-file")
    expect(page.locator("[name=beta]")).to_have_value("0.25")


def test_everything_goes_without_scripts(browser: Browser, site, world, pairs_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    upload(page, site, pairs_file)
    page.get_by_label("Name").fill("Plain")
    page.get_by_role("button", name="Save 30 pairs").click()
    page.get_by_role("link", name="Align with it").click()
    page.locator("[name=start]").select_option(f"model:{world.model_id}")
    page.locator("[name=method][value=dpo]").check()
    page.locator("[name=aligned_id]").fill("plain-result")
    page.get_by_role("button", name="Remove this SAE").click()
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#launch-checks")).to_contain_text("24 to train on")
    page.get_by_role("button", name="Start the run").click()
    expect(page).to_have_url(re.compile(r"/align/\d+$"))
    context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_before_a_run_has_a_fault(
    page: Page, site, world, axe, look, pairs_file, quiet_console
):
    wear(page, site, "light")
    upload(page, site, pairs_file)
    report = page.url
    page.get_by_label("Name").fill("Looked at")
    page.get_by_role("button", name="Save 30 pairs").click()
    base = page.url
    page.goto(f"{base}/contrast")
    if not page.locator(".contrast-table").count():
        publish_contrast(site.scope, world, card_of(site, base))
    upload(page, site, pairs_file)
    report = page.url
    wear(page, site, look)
    ids = f"feature={world.model_id}/{world.sae_id}/3"
    addresses = {
        "list": f"{site.url}/preferences",
        "new": f"{site.url}/preferences/new",
        "report": report,
        "set": base,
        "rejected": f"{base}?view=rejected",
        "contrast": f"{base}/contrast",
        "launch": f"{site.url}/align/new?treat=held&{ids}",
        "own": f"{site.url}/align/new?preset=own",
        "sft": f"{site.url}/align/new?kind=sft",
        "layers": f"{site.url}/align/new/layers?model={world.model_id}",
    }
    found = {}
    for name, address in addresses.items():
        page.goto(address)
        found[name] = faults(page, axe)
    assert {name: lines for name, lines in found.items() if lines} == {}
