"""Failures, phases and log lines have words in the reader's language."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from app.web import i18n, words
from core.domain.job_lines import sentence
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


def test_a_line_of_a_known_kind_is_told_in_the_readers_language(chinese):
    values: dict[str, JsonValue] = {"harvest_id": 1200}
    found = words.log_text(sentence("harvest_known", values), "harvest_known", values)
    assert found == "采集 1,200 与本次完全相同，直接使用。"


def test_a_code_in_a_line_is_told_by_its_headline(chinese):
    kind = "attempt_ended_early"
    values: dict[str, JsonValue] = {"attempt": 2, "code": "worker_lost"}
    found = words.log_text(sentence(kind, values), kind, values)
    assert words.error_word("worker_lost") in found


@pytest.mark.parametrize(
    ("kind", "values"), [(None, {}), ("of_another_version", {"n": 1}), ("harvest_known", {})]
)
def test_free_text_and_lines_of_other_versions_stay_as_they_are(chinese, kind, values):
    assert words.log_text("plain", kind, values) == "plain"
