"""Logging: text for people, JSON lines for machines, never a secret."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOBase
from typing import IO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
job_id: ContextVar[int | None] = ContextVar("job_id", default=None)

_SECRETS = (
    (re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+@"), r"\1:***@"),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"(?i)\b(sk|hf|ghp|xox[abp])([-_])[\w-]{8,}"), r"\1\2***"),
    (
        re.compile(
            r"""(?i)\b(api[-_]?key|password|secret(?:_key)?|token)(["']?\s*[=:]\s*["']?)[^\s"',&]{4,}"""
        ),
        r"\1\2***",
    ),
)
_NOISY = ("httpx", "httpcore", "openai", "alembic", "urllib3", "filelock", "asyncio")


def configure_logging(
    *, level: str, json_lines: bool, stream: IO[str] | TextIOBase | None = None
) -> None:
    """Set up the root logger of this process; a second call replaces the first.

    Args:
        level: least level of our own records; libraries that chatter log warnings only.
        json_lines: JSON objects in place of text.
        stream: where lines go; none means stderr.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines() if json_lines else PlainLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


@contextmanager
def about(*, request: str | None = None, job: int | None = None) -> Iterator[None]:
    """Mark every record of the block with a request or a job."""
    marks = (request_id.set(request or request_id.get()), job_id.set(job or job_id.get()))
    try:
        yield
    finally:
        request_id.reset(marks[0])
        job_id.reset(marks[1])


def without_secrets(text: str) -> str:
    """The text with passwords, keys and bearer tokens replaced by stars.

    >>> without_secrets("GET /v1/models api_key=abcdef123 at postgresql://ann:pw@db/x")
    'GET /v1/models api_key=*** at postgresql://ann:***@db/x'
    """
    for pattern, stars in _SECRETS:
        text = pattern.sub(stars, text)
    return text


class PlainLines(logging.Formatter):
    """``12:30:01 INFO core.jobs [job 7] text``."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line, with its traceback below if it has one."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        marks = [f"job {job_id.get()}"] if job_id.get() is not None else []
        marks += [f"request {request_id.get()}"] if request_id.get() is not None else []
        about_what = f" [{', '.join(marks)}]" if marks else ""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        line = f"{moment} {record.levelname} {record.name}{about_what} {text}"
        return without_secrets(line)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and what the record is about."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a JSON object."""
        fields: dict[str, str | int | None] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            "request_id": request_id.get(),
            "job_id": job_id.get(),
        }
        if record.exc_info:
            fields["traceback"] = without_secrets(self.formatException(record.exc_info))
        known = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(known, ensure_ascii=False)
