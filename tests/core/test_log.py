"""Log lines say what they are about and never a secret."""

import io
import json
import logging

import pytest

from core.log import about, configure_logging, without_secrets

log = logging.getLogger("core.test")


@pytest.fixture(autouse=True)
def restored():
    """The root logger as it was."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    yield
    root.handlers[:] = kept
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def lines(write, *, json_lines):
    """What is logged by a function."""
    stream = io.StringIO()
    configure_logging(level="INFO", json_lines=json_lines, stream=stream)
    write()
    return stream.getvalue().splitlines()


def test_a_line_names_its_request_and_job():
    def write():
        with about(request="r-1", job=7):
            log.info("did %s", "it")
        log.info("after")

    first, second = lines(write, json_lines=False)
    assert "[job 7, request r-1] did it" in first
    assert first.split()[1:3] == ["INFO", "core.test"]
    assert "[" not in second


def test_a_json_line_is_one_object_with_the_traceback_in_it():
    def write():
        with about(job=7):
            try:
                int("no such")
            except ValueError:
                log.exception("failed")

    (line,) = lines(write, json_lines=True)
    found = json.loads(line)
    assert (found["level"], found["message"], found["job_id"]) == ("ERROR", "failed", 7)
    assert "ValueError" in found["traceback"]
    assert "request_id" not in found
    assert found["at"].endswith("+00:00")


@pytest.mark.parametrize("json_lines", [False, True], ids=["text", "JSON"])
def test_secrets_are_starred_in_messages_and_tracebacks(json_lines):
    def write():
        log.warning("at %s with %s", "postgresql://ann:hushhush@db/x", "Bearer hushhush123")
        try:
            int("api_key=hushhush refused")
        except ValueError:
            log.exception("key sk-hushhush12345678 failed")

    text = "\n".join(lines(write, json_lines=json_lines))
    assert "hushhush" not in text
    assert "postgresql://ann:***@db/x" in text


@pytest.mark.parametrize(
    "harmless",
    [
        "21,000 tokens a second",
        "token: 5",
        "see https://host/path:1@x",
        "tokens=128 documents=7",
        "max_tokens: 300000",
    ],
)
def test_harmless_text_stays(harmless):
    assert without_secrets(harmless) == harmless


def test_a_second_setup_replaces_the_first():
    first = io.StringIO()
    configure_logging(level="INFO", json_lines=False, stream=first)
    (line,) = lines(lambda: log.info("once"), json_lines=False)
    assert "once" in line
    assert first.getvalue() == ""


def test_debug_lines_are_left_out_unless_asked_for():
    assert lines(lambda: log.debug("detail"), json_lines=False) == []
