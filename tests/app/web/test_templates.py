"""Templates keep the house rules, and what they name exists."""

import re
from pathlib import Path

import pytest

from app.web.render import STATIC, TEMPLATES, environment, vendored
from tools.lint_templates import faults
from tools.vendor import ICONS, TREES, differences

FILES = sorted(TEMPLATES.rglob("*.html"))
CSS = (STATIC / "css" / "app.css").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_a_template_keeps_the_house_rules(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        '<p style="color: red">',
        "<script>alert(1)</script>",
        '<a onclick="x()">',
        '<b hx-on:click="x()">',
        "{{ text|safe }}",
        '<a href="https://elsewhere.example/">',
        '<form hx-post="/x" hx-target="#y">',
        '<form\n hx-post="/x" hx-swap="none">',
        '<div hx-ext="sse">',
        '<a hx-get="/x" hx-target="#a" hx-swap="none" hx-trigger="click[ctrlKey]">',
    ],
)
def test_the_lint_finds(wrong):
    assert faults(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_a_template_compiles(path):
    environment().get_template(str(path.relative_to(TEMPLATES)))


def test_every_icon_of_a_template_is_in_the_sprite():
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    named = set(re.findall(r'icon\("([a-z0-9-]+)"', text))
    named |= set(re.findall(r'"(arrow-[a-z]+)"', text))
    assert named <= set(ICONS)
    sprite = (STATIC / "vendor" / vendored()["lucide"] / "sprite.svg").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in sprite for name in named)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.parent.name)
def test_vendored_files_are_those_of_the_manifest(tree):
    assert differences(tree) == []


def test_every_file_that_the_stylesheet_names_exists():
    for address in re.findall(r'url\("([^"]+)"\)', CSS):
        assert (STATIC / "css" / address).resolve().is_file(), address


def test_colours_are_written_in_the_tokens_layer_only():
    tokens, after = CSS.split("@layer base {", 1)
    assert "--accent:" in tokens
    literal = re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgb\(|\bhsl\(", after)
    assert literal == []


def test_scripts_set_no_markup():
    for path in Path(STATIC / "js").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert "innerHTML" not in text
        assert "eval(" not in text
