"""Every line that a worker tells has a sentence, and every sentence is told."""

import re
from pathlib import Path

import pytest

from core.domain.job_lines import SENTENCES, line

ROOT = Path(__file__).parents[3]
CALL = re.compile(r"(?:\b(?:tell|line)\(\s*|\bSENTENCES\[)\"(\w+)\"")


def test_kinds_in_code_are_those_of_the_sentences():
    files = [*(ROOT / "worker").rglob("*.py"), *(ROOT / "core").rglob("*.py")]
    told = {kind for file in files for kind in CALL.findall(file.read_text(encoding="utf-8"))}
    assert told == set(SENTENCES)


def test_a_line_holds_its_kind_its_values_and_the_english_text():
    assert line("lines_left_out", "warning", n=1200) == {
        "level": "warning",
        "text": "1,200 more lines left out",
        "line": "lines_left_out",
        "values": {"n": 1200},
    }


def test_a_value_that_a_sentence_needs_must_be_there():
    with pytest.raises(KeyError):
        line("lines_left_out")
