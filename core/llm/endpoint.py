"""An endpoint: where a model is served, by which name, and what its provider wants."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr


class TokensField(StrEnum):
    """Name of the field that limits an answer's length."""

    MAX_TOKENS = "max_tokens"  # most compatible servers
    MAX_COMPLETION_TOKENS = "max_completion_tokens"  # OpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One model at one OpenAI-compatible address.

    Attributes:
        base_url: address that ends in ``/v1``.
        api_key: never printed; None for servers without keys.
        concurrency: requests under way at once.
        timeout_seconds: longest wait for one answer.
        attempts: how often a request is sent at most; only passing troubles are tried again.
        backoff_seconds: wait before the second attempt, doubled each time, unless the server says.
        longest_wait_seconds: a server that asks to wait longer fails the request instead.
        extra_tokens: added to every answer's limit, for models that reason first.
        with_sampling: send temperature and seed; some reasoning models refuse them.
    """

    base_url: str
    model: str
    api_key: SecretStr | None = None
    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 4
    backoff_seconds: float = 0.5
    longest_wait_seconds: float = 120.0
    tokens_field: TokensField = TokensField.MAX_TOKENS
    extra_tokens: int = 0
    with_sampling: bool = True

    @property
    def root_url(self) -> str:
        """The address without ``/v1``, where servers keep what OpenAI does not have."""
        return self.base_url.rstrip("/").removesuffix("/v1")
