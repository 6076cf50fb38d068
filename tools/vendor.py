"""Copies browser libraries from node_modules into static/vendor, with licences and hashes.

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
MANIFEST = VENDOR / "MANIFEST.json"
SOURCE_MAP = re.compile(r"\n?(//[#@] sourceMappingURL=\S*|/\*[#@] sourceMappingURL=.*?\*/)\s*$")
SPDX = {"BSD-0-Clause": "0BSD"}
ICONS = [
    "activity",
    "arrow-down",
    "arrow-right",
    "arrow-up",
    "ban",
    "box",
    "chart-column",
    "check",
    "chevron-down",
    "chevron-left",
    "chevron-right",
    "chevron-up",
    "circle-alert",
    "circle-stop",
    "clock",
    "code",
    "copy",
    "cpu",
    "database",
    "download",
    "ellipsis",
    "external-link",
    "file-text",
    "git-compare",
    "hard-drive",
    "hash",
    "house",
    "info",
    "keyboard",
    "languages",
    "layers",
    "link",
    "list-filter",
    "memory-stick",
    "menu",
    "microscope",
    "moon",
    "play",
    "plus",
    "refresh-cw",
    "rotate-ccw",
    "search",
    "settings-2",
    "shuffle",
    "sliders-horizontal",
    "sparkles",
    "sun",
    "sun-moon",
    "table-2",
    "tag",
    "terminal",
    "triangle-alert",
    "undo-2",
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


def sprite() -> str:
    """One SVG file with a symbol an icon."""
    symbols = []
    for icon in sorted(ICONS):
        text = (MODULES / "lucide-static" / "icons" / f"{icon}.svg").read_text(encoding="utf-8")
        inner = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", text, flags=re.DOTALL)
        inner = " ".join(inner.split())
        symbols.append(f'<symbol id="{icon}" viewBox="0 0 24 24">{inner}</symbol>')
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def copy_package(package: Package) -> dict[str, object]:
    """A package's files copied, and its entry of the manifest."""
    source = MODULES / package.npm
    described = json.loads((source / "package.json").read_text(encoding="utf-8"))
    target = VENDOR / f"{package.name}-{described['version']}"
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
        "files": {path.relative_to(VENDOR).as_posix(): digest(path) for path in listing(target)},
    }


def listing(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(path: Path) -> str:
    """Sha256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences() -> list[str]:
    """Files that MANIFEST.json does not describe as they are; empty when all is well."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    said = {path: sha for entry in manifest["packages"] for path, sha in entry["files"].items()}
    there = {path.relative_to(VENDOR).as_posix(): path for path in listing(VENDOR)}
    del there[MANIFEST.name]
    found = [path for path in said if path not in there or digest(there[path]) != said[path]]
    return sorted(found + [path for path in there if path not in said])


def main() -> None:
    """Copy, or check with ``--check``."""
    if "--check" in sys.argv[1:]:
        wrong = differences()
        sys.exit(f"differ from MANIFEST.json: {', '.join(wrong)}" if wrong else 0)
    if not MODULES.is_dir():
        sys.exit("There is no node_modules: run npm ci --ignore-scripts first.")
    shutil.rmtree(VENDOR, ignore_errors=True)
    entries = [copy_package(package) for package in PACKAGES]
    MANIFEST.write_text(json.dumps({"packages": entries}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
