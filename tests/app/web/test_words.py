"""Failures, phases and log lines have words in the reader's language."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.web import i18n, words
from core.errors import SparsightError
from core.jobs.recovery import Crash

ROOT = Path(__file__).parents[3]


@pytest.fixture
def chinese():
    token = i18n.current.set("zh_CN")
    yield
    i18n.current.reset(token)


def kinds_of(kind: type[SparsightError]) -> Iterator[type[SparsightError]]:
    """A class of failures and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from kinds_of(below)


def literals(name: str) -> set[str]:
    """Texts that the worker's code gives for a parameter."""
    found = re.compile(rf"\b{name}=\"([^\"]+)\"")
    files = (ROOT / "worker").rglob("*.py")
    return {text for file in files for text in found.findall(file.read_text(encoding="utf-8"))}


def test_every_code_of_a_failure_has_a_headline(chinese):
    codes = {kind.code for kind in kinds_of(SparsightError) if "core." in kind.__module__}
    codes |= {crash.value.code for crash in Crash}
    plain = words.error_word("error")
    assert {code for code in codes if words.error_word(code) == plain} == {"error"}


@pytest.mark.parametrize(
    ("parameter", "word"), [("phase", words.phase_word), ("unit", words.unit_word)]
)
def test_every_phase_and_unit_of_a_job_has_a_word(chinese, parameter, word):
    said = literals(parameter)
    assert len(said) > 3
    assert {text for text in said if word(text) == text and text != "SAEs"} == set()
