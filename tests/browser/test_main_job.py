"""The main job in the browser with nothing played: a real model, SAE, worker and runner."""

import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

from core.db.repositories import feature_pages, features
from core.domain.activation import Band
from core.domain.ids import FeatureId
from core.domain.views import FeatureQuery, FeatureSort
from tests.support.jobs import worker_process
from tests.support.tiny_models import tiny_llama
from tests.support.tiny_saes import HOOK, write_params_npz
from tests.support.tiny_tokenizer import VOCAB_SIZE, tiny_tokenizer

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
MODEL, SAE = "tiny-llama", "1-random"
WORKER_MS = 120_000  # a worker and its runners start slowly on a loaded machine


@pytest.fixture(scope="module")
def worker(site, database_url):
    """A real worker with real runners."""
    with worker_process(database_url, site.data_dir, runner="worker.runner"):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A random Llama in a folder, and a JumpReLU SAE for its second layer as params.npz."""
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_llama(dtype=torch.float32, vocab_size=VOCAB_SIZE, attn_implementation="sdpa")
    model.save_pretrained(folder / "model")
    tiny_tokenizer(None).save_pretrained(folder / "model")
    write_params_npz(folder / "params.npz")
    return folder


def start_harvest(page: Page, site, files) -> None:
    """Fill in the form for the tiny model over the code of this repository, and send it."""
    page.goto(f"{site.url}/jobs/new?preset=own")
    page.locator("[name='model.kind']").select_option("folder")
    page.locator("[name='model.location']").fill(str(files / "model"))
    page.locator("[name=model_id]").fill(MODEL)
    page.locator("[name='saes.0.source.kind']").select_option("npz")
    page.locator("[name='saes.0.source.location']").fill(str(files / "params.npz"))
    page.locator("[name='saes.0.source.hook_name']").fill(HOOK)
    page.locator("[name='saes.0.sae_id']").fill(SAE)
    page.locator("[name='corpus.kind']").select_option("folder")
    page.locator("[name='corpus.path']").fill(str(ROOT / "core"))
    page.locator("[name='corpus.suffixes']").fill(".py")
    page.locator("[name='corpus.max_tokens']").fill("400000")
    page.locator(".advanced summary").click()
    for name, value in {"context_size": 64, "shard_contexts": 64, "n_top": 10}.items():
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("[name=dtype]").select_option("float32")
    expect(page.locator("#estimate dl")).to_be_visible()
    page.get_by_role("button", name="Start the harvest").click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))


def test_from_an_empty_form_to_the_raw_view_of_a_feature(page: Page, site, files, worker):
    start_harvest(page, site, files)
    expect(page.locator("#log")).to_contain_text("Shard 2 of", timeout=WORKER_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status .pill")).to_contain_text("stopped", timeout=WORKER_MS)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#status .job-facts")).to_contain_text("Attempt 2", timeout=WORKER_MS)
    expect(page.locator("#status .pill")).to_contain_text("finished", timeout=WORKER_MS)
    expect(page.locator("#log")).to_contain_text("is used again")

    page.locator("#status").get_by_role("link", name=SAE).click()
    page.locator("#features thead a").filter(has_text=re.compile("max", re.IGNORECASE)).click()
    expect(page).to_have_url(re.compile("sort=max"))
    strongest = page.locator("#features tbody tr").first.get_by_role("link").first
    with site.scope() as session:
        listed = features.list_features(
            session,
            model_id=MODEL,
            sae_id=SAE,
            query=FeatureQuery(sort=FeatureSort.MAX_ACTIVATION, descending=True, limit=1),
        )
        index = listed.cards[0].stats.index
        stored = feature_pages.feature_page(
            session, feature=FeatureId(model_id=MODEL, sae_id=SAE, index=index)
        )
    strongest.click()
    expect(page).to_have_url(re.compile(f"/{MODEL}/{SAE}/{index}(\\?.*)?$"))
    tops = [context for context in stored.contexts if context.band is Band.TOP]
    assert len(tops) == 10
    assert all(tops[i].activations.max() >= tops[i + 1].activations.max() for i in range(9))
    page.goto(f"{site.url}/{MODEL}/{SAE}/{index}?view=raw&band=top")
    raw = page.locator(".raw pre").first.inner_text()
    numbers = [int(line.rsplit("\t", 1)[1]) for line in raw.splitlines() if "\t" in line]
    assert max(numbers) == 10
