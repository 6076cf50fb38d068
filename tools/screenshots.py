"""Pictures of every page of a running Sparsight: light, dark, Chinese, and a small screen.

``python tools/screenshots.py [address] [folder]``; the pages are those of the first SAE that has a
harvest.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

ADDRESS = "http://127.0.0.1:8750"
FOLDER = "build/screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@dataclass(frozen=True)
class Look:
    """How a page is seen."""

    name: str
    theme: str = "light"
    language: str = "en"
    width: int = 1440


LOOKS = (
    Look("light"),
    Look("dark", theme="dark"),
    Look("zh", language="zh_CN"),
    Look("narrow", theme="dark", width=420),
)


BEFORE_A_RUN = {
    "preferences": "/preferences",
    "new-preferences": "/preferences/new",
    "preference-set": "/preferences/demo",
    "contrast": "/preferences/demo/contrast",
    "new-run": "/align/new",
    "new-run-paper": "/align/new?preset=fpo-paper-gemma-2-2b",
    "new-run-own": "/align/new?preset=own",
    "new-run-sft": "/align/new?kind=sft",
    "layers": "/align/new/layers",
}


def ask(address: str, path: str, **query: object) -> dict[str, object]:
    """An answer of the API."""
    with urlopen(f"{address}/api/v1{path}?{urlencode(query)}") as answer:  # noqa: S310  (given by the caller)
        found = json.load(answer)
    return found if isinstance(found, dict) else {}


def pages(address: str) -> dict[str, str]:
    """Paths of the pages by a name; those of features only where something was harvested."""
    found = {"home": "/", "jobs": "/jobs", "new-harvest": "/jobs/new", "missing": "/jobs/999999"}
    found["api"] = "/api"
    found |= BEFORE_A_RUN | run_pages(address) | label_pages(address)
    models = ask(address, "/models").get("models")
    for model in models if isinstance(models, list) else []:
        model_id = model["model_id"]
        for sae in model["saes"]:
            if sae["harvest"] is None:
                continue
            base = f"/{model_id}/{sae['sae_id']}"
            path = f"/models/{model_id}/saes/{sae['sae_id']}/features/random"
            feature = ask(address, path, seed=1)["index"]
            return (
                found
                | explanation_pages(address, f"{base}/{feature}")
                | {
                    "model": f"/{model_id}",
                    "list": base,
                    "feature": f"{base}/{feature}",
                    "feature-all": f"{base}/{feature}?band=all",
                    "raw": f"{base}/{feature}?view=raw",
                }
            )
    return found


def label_pages(address: str) -> dict[str, str]:
    """Paths of the pages of tags and labels; of the first tag where there is one."""
    found = {"tags": "/tags", "import-labels": "/labels/import"}
    there = ask(address, "/tags").get("tags")
    names = [tag["name"] for tag in there] if isinstance(there, list) else []
    labelled = ask(address, "/labels", limit=1).get("labels")
    if names and isinstance(labelled, list):
        feature = labelled[0]["feature"]
        base = feature.rpartition("/")[0]
        tag = quote(names[0], safe="")
        found |= {
            "tag": f"/tags/{tag}",
            "tagged": f"/{base}?tags={tag}",
            "tag-all": f"/{base}/tag?tags={tag}",
            "label": f"/{feature}/label",
            "label-edit": f"/{feature}/label/edit",
            "new-run-of-a-tag": f"/align/new?tag={tag}&sae={base}&treat=held",
        }
    return found


def run_pages(address: str) -> dict[str, str]:
    """Paths of the pages of runs; of the newest finished one, and of a feature that it moved."""
    found = {"runs": "/align", "runs-compared-none": "/align/compare"}
    there = ask(address, "/alignments", limit=50).get("runs")
    runs = there if isinstance(there, list) else []
    ids = [run["job"]["job_id"] for run in runs if run["job"]["state"] == "succeeded"]
    if ids:
        found |= {
            "run": f"/align/{ids[0]}",
            "run-moved": f"/align/{ids[0]}/moved",
            "run-samples": f"/align/{ids[0]}/samples",
            "run-job": f"/jobs/{ids[0]}",
        }
    if len(ids) > 1:
        found["runs-compared"] = f"/align/compare?run={ids[0]}&run={ids[1]}"
    return found


def explanation_pages(address: str, feature: str) -> dict[str, str]:
    """Paths of the pages of explanations; of the newest explanation where there is one."""
    found = {
        "explain": f"{feature}/explain",
        "explain-preview": f"{feature}/explain?preview=1",
        "write": f"{feature}/explanations/new",
    }
    there = ask(address, "/explanations", words="e", limit=200).get("explanations")
    explained = sorted(
        there if isinstance(there, list) else [], key=lambda one: -len(one["scores"])
    )
    if explained:
        first = explained[0]
        found |= {
            "explained": f"/{first['feature']}",
            "explanation": f"/explanations/{first['explanation_id']}",
            "explanation-edit": f"/explanations/{first['explanation_id']}/edit",
            "explanation-delete": f"/explanations/{first['explanation_id']}/delete",
            "explanations-compared": f"/{first['feature']}/compare",
        }
        kinds = {score["kind"]: score["score_id"] for score in reversed(first["scores"])}
        found |= {f"score-{kind}": f"/scores/{number}" for kind, number in kinds.items()}
    return found


def take(browser: Browser, address: str, folder: Path, look: Look) -> None:
    """Every page in one look."""
    context = browser.new_context(viewport={"width": look.width, "height": 900})
    cookies = {"theme": look.theme, "lang": look.language}
    context.add_cookies([{"name": n, "value": v, "url": address} for n, v in cookies.items()])
    page = context.new_page()
    for name, path in pages(address).items():
        page.goto(address + path)
        page.evaluate("document.fonts.ready")
        for row in page.locator(".ctx, .preference").all():  # far rows are blank otherwise
            row.evaluate("row => { row.style.contentVisibility = 'visible' }")
        page.screenshot(path=folder / f"{name}-{look.name}.png", full_page=True)
    context.close()


def main() -> None:
    """Take all pictures."""
    address = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else ADDRESS
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit("There is no Chromium. On Debian and Ubuntu: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        for look in LOOKS:
            take(browser, address, folder, look)
        browser.close()


if __name__ == "__main__":
    main()
