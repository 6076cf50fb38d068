"""What went wrong with a request, sorted by what helps."""

import re
from dataclasses import dataclass

import aiohttp
import openai

from core.domain.explanation import Failure, FailureCode
from core.llm.transport import was_refused

_PASSING = frozenset(
    {
        FailureCode.RATE_LIMIT,
        FailureCode.TIMEOUT,
        FailureCode.CONNECTION,
        FailureCode.SERVER,
    }
)
# Troubles that the next request will have too: the client stops sending after a few in a row.
LASTING = frozenset({FailureCode.AUTH, FailureCode.QUOTA, FailureCode.CONNECTION})

_TOO_LONG = re.compile(
    r"context.?length|context.?(?:window|size)|maximum context|too (?:long|many) (?:tokens|prompt)"
    r"|prompt is too long|exceeds? the (?:available |maximum )?context",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(r"not support|unsupported|not implemented|only no echo", re.IGNORECASE)
_MESSAGE_CHARS = 300
_FORBIDDEN_STATUS = 403
_REQUEST_TIMEOUT_STATUS = 408
_CONFLICT_STATUS = 409
_SERVER_STATUS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why an attempt failed.

    Attributes:
        retry_after: seconds the server asks to wait; None when it does not say.
    """

    code: FailureCode
    message: str
    retry_after: float | None = None

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in _PASSING

    def failure(self) -> Failure:
        """The trouble as a stored failure."""
        return Failure(code=self.code, message=self.message)


_NO_CONNECTION = Trouble(code=FailureCode.CONNECTION, message="The connection failed or broke.")


def trouble_of(
    error: openai.OpenAIError | aiohttp.ClientError | TimeoutError | ValueError,
) -> Trouble:
    """The class of an error that the client library raised.

    A ``ValueError`` is a body that is not JSON: the server broke off or something stands between.
    """
    match error:
        case openai.APITimeoutError() if was_refused(error):
            return _NO_CONNECTION
        case TimeoutError() | openai.APITimeoutError():
            return Trouble(code=FailureCode.TIMEOUT, message="The server took too long.")
        case openai.APIConnectionError() | aiohttp.ClientError():
            return _NO_CONNECTION
        case openai.APIStatusError():
            return _by_status(error)
        case _:
            return Trouble(code=FailureCode.SERVER, message="The server sent no readable answer.")


def _by_status(error: openai.APIStatusError) -> Trouble:
    message = _short(error)
    code = _status_code(error, message)
    return Trouble(code=code, message=message, retry_after=_retry_after(error))


def _status_code(error: openai.APIStatusError, message: str) -> FailureCode:
    kind = f"{error.code or ''} {error.type or ''}"
    match error:
        case openai.RateLimitError():
            spent = "insufficient_quota" in kind or "quota" in message.lower()
            return FailureCode.QUOTA if spent else FailureCode.RATE_LIMIT
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return FailureCode.AUTH
        case _:
            pass
    if error.status_code == _REQUEST_TIMEOUT_STATUS:
        return FailureCode.TIMEOUT
    if error.status_code == _CONFLICT_STATUS:
        return FailureCode.SERVER
    if "context_length" in kind or _TOO_LONG.search(message):
        return FailureCode.CONTEXT_LENGTH
    if "content_filter" in kind:
        return FailureCode.CONTENT_FILTER
    if error.status_code == 501 or _UNSUPPORTED.search(message):
        return FailureCode.UNSUPPORTED
    return FailureCode.SERVER if error.status_code >= _SERVER_STATUS else FailureCode.BAD_REQUEST


def _retry_after(error: openai.APIStatusError) -> float | None:
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def _short(error: openai.APIStatusError) -> str:
    text = " ".join(str(error.message).split())
    return f"HTTP {error.status_code}: {text}"[:_MESSAGE_CHARS]
