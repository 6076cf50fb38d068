"""Bodies about endpoints; none of them ever holds a key that is stored."""

from datetime import datetime
from typing import Self

from pydantic import Field, SecretStr

from app.api.schemas.base import Request, Schema
from core.domain.endpoint import EndpointSettings
from core.domain.explanation import SimulationMode
from core.domain.views_explain import EndpointCard, KeySource


class AbilitiesBody(Schema):
    """What an endpoint's server can do, found by what it answers."""

    served_as: str = Field(description="Name the server answers with.", examples=["qwen3-8b"])
    chat: bool = Field(description="Whether it chats.", examples=[True])
    chat_logprobs: int = Field(
        description="Alternatives at a generated token; 0 for none.", examples=[20]
    )
    prompt_logprobs: str = Field(
        description="Log-probabilities of prompts: none, by_text, by_id, or native: by id, "
        "through SGLang's own interface.",
        examples=["by_id"],
    )
    json_schema: bool = Field(description="Whether it keeps to a schema.", examples=[True])
    tokenizer: bool = Field(description="Whether it tells token ids.", examples=[True])
    ten_is_one_token: bool | None = Field(
        description='Whether "10" is one token; null if nothing told.', examples=[True]
    )
    modes: list[SimulationMode] = Field(
        description="Ways to simulate that work, best first.", examples=[["all_at_once"]]
    )
    scale_top: int = Field(description="Largest number of the scale: 9 or 10.", examples=[10])
    context_limit: int | None = Field(description="In tokens; null if unknown.", examples=[32_768])
    embedding_size: int = Field(
        description="Numbers in an embedding; 0 if it embeds no texts.", examples=[0]
    )
    notes: list[str] = Field(description="What was seen, in sentences.", examples=[[]])
    probed_at: datetime = Field(description="When.", examples=["2026-11-20T10:00:00Z"])


class EndpointBody(Schema):
    """One model at one OpenAI-compatible address."""

    endpoint_id: int = Field(description="Number of the endpoint.", examples=[1])
    name: str = Field(description="Name shown here.", examples=["local qwen"])
    base_url: str = Field(description="Its address.", examples=["http://localhost:8000/v1"])
    model: str = Field(description="Name of the model there.", examples=["qwen3-8b"])
    key_source: KeySource = Field(
        description="Where its key comes from; the key itself is never shown.", examples=["stored"]
    )
    key_variable: str = Field(description="Variable that holds the key, if any.", examples=[""])
    concurrency: int = Field(description="Requests under way at once.", examples=[8])
    timeout_seconds: float = Field(description="Longest wait.", examples=[120.0])
    attempts: int = Field(description="Sent so often at most.", examples=[4])
    tokens_field: str = Field(description="Field that limits answers.", examples=["max_tokens"])
    extra_tokens: int = Field(description="Added to every limit.", examples=[0])
    with_sampling: bool = Field(description="Temperature and seed are sent.", examples=[True])
    price_prompt: float | None = Field(
        description="US dollars a million prompt tokens; null if unknown.", examples=[0.4]
    )
    price_completion: float | None = Field(
        description="US dollars a million answer tokens; null if unknown.", examples=[1.6]
    )
    price_cached: float | None = Field(
        description="US dollars a million cached prompt tokens; null as prompt.", examples=[0.1]
    )
    abilities: AbilitiesBody | None = Field(
        description="What it can do; null until its connection was tested."
    )
    created_at: datetime = Field(description="When.", examples=["2026-11-20T10:00:00Z"])

    @classmethod
    def of(cls, card: EndpointCard) -> Self:
        """The body of an endpoint."""
        return cls.model_validate(card)


class EndpointList(Schema):
    """Every endpoint."""

    endpoints: list[EndpointBody] = Field(description="By name.")


class NewEndpoint(Request):
    """An endpoint that is to be kept."""

    settings: EndpointSettings = Field(description="How it is reached.")
    api_key: SecretStr | None = Field(
        default=None,
        max_length=1_000,
        description="Its key; encrypted before it is stored, never shown again.",
        examples=["sk-…"],
    )


class ChangedEndpoint(NewEndpoint):
    """New settings of an endpoint; its stored key stays unless another is given."""

    forget_key: bool = Field(default=False, description="Forget the stored key.", examples=[False])
