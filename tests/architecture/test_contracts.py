"""Files that must agree with each other do."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from core.domain.preset import list_presets, load_preset

ROOT = Path(__file__).parents[2]


def test_the_readme_names_every_folder_of_the_house():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [
        path
        for path in ROOT.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and path.name not in {"data", "build", "node_modules"}
        and not path.name.endswith(".egg-info")
    ]
    missing = [room.name for room in rooms if f"{room.name}/" not in readme]
    assert not missing


def test_every_make_target_has_a_word_of_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", list_presets())
def test_a_shipped_preset_is_valid(name):
    assert load_preset(name).saes


def test_the_gemma_preset_reads_all_26_layers():
    spec = load_preset("gemma-2-2b")
    assert [entry.source.release_id for entry in spec.saes] == [
        f"layer_{layer}/width_16k/canonical" for layer in range(26)
    ]


def test_the_lock_pins_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").lower()
    for requirement in wanted:
        name = re.split(r"[\[<>=! ]", requirement, maxsplit=1)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE), name


def test_every_link_of_the_readme_and_the_docs_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    broken = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken
