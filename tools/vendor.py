"""Copies browser libraries from node_modules, with licences and hashes.

What is served goes to static/vendor, what only tests use to tests/browser/vendor.

``npm ci --ignore-scripts && python tools/vendor.py`` writes the tree anew; with ``--check`` the
files are only held against MANIFEST.json, which needs neither node nor network.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"
FOR_TESTS = ROOT / "tests" / "browser" / "vendor"
MANIFEST = "MANIFEST.json"
SOURCE_MAP = re.compile(r"\n?(//[#@] sourceMappingURL=\S*|/\*[#@] sourceMappingURL=.*?\*/)\s*$")
SPDX = {"BSD-0-Clause": "0BSD"}
ICONS = [
    "activity",
    "arrow-down",
    "arrow-right",
    "arrow-up",
    "ban",
    "bot",
    "box",
    "chart-column",
    "check",
    "chevron-down",
    "chevron-left",
    "chevron-right",
    "chevron-up",
    "circle-alert",
    "circle-check",
    "circle-stop",
    "clock",
    "code",
    "coins",
    "copy",
    "cpu",
    "database",
    "download",
    "ellipsis",
    "external-link",
    "eye",
    "file-text",
    "gauge",
    "git-compare",
    "hard-drive",
    "hash",
    "house",
    "info",
    "key-round",
    "keyboard",
    "languages",
    "layers",
    "link",
    "list-filter",
    "memory-stick",
    "menu",
    "microscope",
    "moon",
    "pause",
    "pencil",
    "play",
    "plus",
    "refresh-cw",
    "rotate-ccw",
    "search",
    "server",
    "settings-2",
    "shuffle",
    "sliders-horizontal",
    "sparkles",
    "sun",
    "sun-moon",
    "table-2",
    "tag",
    "terminal",
    "trash-2",
    "triangle-alert",
    "undo-2",
    "user",
    "x",
]


@dataclass(frozen=True)
class Package:
    """One npm package and the files of it that are served.

    Attributes:
        name: folder name without version.
        files: paths inside the package.
    """

    npm: str
    name: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "htmx.org",
        "htmx",
        ("dist/htmx.min.js", "dist/ext/hx-sse.min.js", "dist/ext/hx-preload.min.js"),
    ),
    Package("uplot", "uplot", ("dist/uPlot.iife.min.js", "dist/uPlot.min.css")),
    Package("@fontsource-variable/inter", "inter", ("files/inter-latin-wght-normal.woff2",)),
    Package(
        "@fontsource-variable/jetbrains-mono",
        "jetbrains-mono",
        ("files/jetbrains-mono-latin-wght-normal.woff2",),
    ),
    Package("lucide-static", "lucide", ()),
)
TEST_PACKAGES = (Package("axe-core", "axe-core", ("axe.min.js",)),)
TREES = {VENDOR: PACKAGES, FOR_TESTS: TEST_PACKAGES}


def sprite() -> str:
    """One SVG file with a symbol an icon."""
    symbols = []
    for icon in sorted(ICONS):
        text = (MODULES / "lucide-static" / "icons" / f"{icon}.svg").read_text(encoding="utf-8")
        inner = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", text, flags=re.DOTALL)
        inner = " ".join(inner.split())
        symbols.append(f'<symbol id="{icon}" viewBox="0 0 24 24">{inner}</symbol>')
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def copy_package(package: Package, tree: Path) -> dict[str, object]:
    """A package's files copied below a tree, and its entry of the manifest."""
    source = MODULES / package.npm
    described = json.loads((source / "package.json").read_text(encoding="utf-8"))
    target = tree / f"{package.name}-{described['version']}"
    target.mkdir(parents=True)
    shutil.copy(source / "LICENSE", target / "LICENSE")
    for file in package.files:
        place = target / Path(file).name
        if place.suffix in {".js", ".css"}:
            text = (source / file).read_text(encoding="utf-8")
            place.write_text(SOURCE_MAP.sub("", text) + "\n", encoding="utf-8")
        else:
            shutil.copy(source / file, place)
    if package.name == "lucide":
        (target / "sprite.svg").write_text(sprite(), encoding="utf-8")
    licence = described["license"]
    return {
        "name": package.name,
        "npm": package.npm,
        "version": described["version"],
        "licence": SPDX.get(licence, licence),
        "files": {path.relative_to(tree).as_posix(): digest(path) for path in listing(target)},
    }


def listing(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(path: Path) -> str:
    """Sha256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(tree: Path = VENDOR) -> list[str]:
    """Files that a tree's manifest does not describe as they are; empty when all is well."""
    manifest = json.loads((tree / MANIFEST).read_text(encoding="utf-8"))
    said = {path: sha for entry in manifest["packages"] for path, sha in entry["files"].items()}
    there = {path.relative_to(tree).as_posix(): path for path in listing(tree)}
    del there[MANIFEST]
    found = [path for path in said if path not in there or digest(there[path]) != said[path]]
    return sorted(found + [path for path in there if path not in said])


def main() -> None:
    """Copy, or check with ``--check``."""
    if "--check" in sys.argv[1:]:
        wrong = [path for tree in TREES for path in differences(tree)]
        sys.exit(f"differ from their manifest: {', '.join(wrong)}" if wrong else 0)
    if not MODULES.is_dir():
        sys.exit("There is no node_modules: run npm ci --ignore-scripts first.")
    for tree, packages in TREES.items():
        shutil.rmtree(tree, ignore_errors=True)
        entries = [copy_package(package, tree) for package in packages]
        text = json.dumps({"packages": entries}, indent=2) + "\n"
        (tree / MANIFEST).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
