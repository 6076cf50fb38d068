"""How a language model is reached: address, name, patience and prices; never its key."""

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from core.domain.spec import Spec

# A variable's value is sent to an address that a user chooses, so only names of keys are read.
KEY_VARIABLE = re.compile(r"(?!SPARSIGHT_)[A-Z][A-Z0-9_]{0,80}_API_KEY")

Dollars: TypeAlias = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


def check_base_url(text: str) -> str:
    """An address to which ``/chat/completions`` can be added.

    >>> check_base_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1'
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write an address such as http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ValueError("leave the key out of the address; give it as the API key")
    if parts.query or parts.fragment:
        raise ValueError("leave out what follows ? or #")
    return text.rstrip("/")


def check_key_variable(text: str) -> str:
    """The name of a variable that may hold a key; empty for none."""
    if text and not KEY_VARIABLE.fullmatch(text):
        raise ValueError("name a variable that ends in _API_KEY, such as OPENAI_API_KEY")
    return text


class EndpointSettings(Spec):
    """One model at one OpenAI-compatible address."""

    name: str = Field(
        min_length=1,
        max_length=80,
        pattern=r"^[^\x00-\x1f]+$",
        description="Name shown here.",
        examples=["local llama"],
    )
    base_url: Annotated[str, AfterValidator(check_base_url)] = Field(
        max_length=500,
        pattern=r"^[\x21-\x7e]+$",
        description="Address that ends in /v1.",
        examples=["http://localhost:8000/v1"],
    )
    model: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]+$",
        description="Name of the model as the server knows it.",
        examples=["qwen3-8b"],
    )
    key_variable: Annotated[str, AfterValidator(check_key_variable)] = Field(
        default="",
        max_length=100,
        description="Name of a variable in the environment of web process and worker that holds "
        "the key, ending in _API_KEY; empty if the key is stored here or none is needed.",
        examples=["OPENAI_API_KEY"],
    )
    concurrency: int = Field(
        default=8, ge=1, le=256, description="Requests under way at once.", examples=[8]
    )
    timeout_seconds: float = Field(
        default=120.0, ge=1, le=3_600, description="Longest wait for one answer.", examples=[120.0]
    )
    attempts: int = Field(
        default=4, ge=1, le=10, description="How often a request is sent at most.", examples=[4]
    )
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="Name of the field that limits answers; OpenAI wants max_completion_tokens.",
    )
    extra_tokens: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Added to every answer's limit, for models that reason first.",
        examples=[0],
    )
    with_sampling: bool = Field(
        default=True, description="Send temperature and seed; some reasoning models refuse them."
    )
    price_prompt: Dollars | None = Field(
        default=None, description="US dollars a million prompt tokens; null if unknown."
    )
    price_completion: Dollars | None = Field(
        default=None, description="US dollars a million answer tokens; null if unknown."
    )
    price_cached: Dollars | None = Field(
        default=None,
        description="US dollars a million prompt tokens from the provider's cache; null as prompt.",
    )
