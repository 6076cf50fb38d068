"""The Chinese catalogue holds every message of the pages, whole and right."""

import re
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from app.web import i18n

ROOT = Path(__file__).parents[3]
PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]")


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with (i18n.LOCALE_DIR / "zh_CN" / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale="zh_CN")


def test_every_message_of_code_and_templates_is_in_the_catalogue(catalogue):
    """Sentences of errors too, wherever in core, app or worker they are raised."""
    with (i18n.LOCALE_DIR / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)
    found = {
        (context, message)
        for _, _, message, _, context in extract_from_dir(
            ROOT, method_map=methods, options_map=options
        )
    }
    known = {(message.context, message.id) for message in catalogue if message.id}
    advice = "; extract and update the catalogue, then translate what is new"
    assert found - known == set(), f"not in the catalogue{advice}"
    assert known - found == set(), f"no longer used{advice}"


def test_no_translation_is_empty_or_guessed(catalogue):
    for message in catalogue:
        if message.id:
            texts = message.string if isinstance(message.string, tuple) else (message.string,)
            assert all(texts), message.id
            assert not message.fuzzy, message.id


def test_placeholders_of_a_translation_are_those_of_the_message(catalogue):
    for message in catalogue:
        if not message.id:
            continue
        singular = message.id if isinstance(message.id, str) else message.id[0]
        for text in message.string if isinstance(message.string, tuple) else (message.string,):
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(singular)), singular
            bare = r"%(?!\(|%)"
            if message.python_format:
                assert not re.search(bare, text.replace("%%", "")), singular


def test_the_catalogue_compiles(catalogue):
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    found = read_mo(compiled).get("Density")
    assert found is not None
    assert found.string == "密度"


@pytest.mark.parametrize(
    ("wishes", "accept", "language"),
    [
        (("zh_CN",), "en", "zh_CN"),
        ((None, "en"), "zh-CN", "en"),
        ((None, None), "zh-TW,zh;q=0.9", "zh_CN"),
        ((None, "klingon"), "fr-FR", "en"),
        ((None, None), "", "en"),
    ],
)
def test_the_language_is_the_first_one_known(wishes, accept, language):
    assert i18n.choose_language(*wishes, accept=accept) == language


def test_numbers_follow_the_language():
    token = i18n.current.set("zh_CN")
    try:
        assert i18n.compact(24_117_248) == "2411.7万"
        assert i18n.duration(215) == "3 分 35 秒"
        assert i18n.duration(50 * 3600) == "2 天 2 小时"
    finally:
        i18n.current.reset(token)
