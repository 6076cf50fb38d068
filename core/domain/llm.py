"""Requests to a language model, what it replied, and questions that read an answer out of a reply.

Who builds a question needs no network, and who sends it needs not know what it is about: a
``Question`` carries its request and the function that reads the reply; a ``Plan`` carries several
questions and the function that joins their answers.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float32

from core.domain.explanation import Outcome
from core.domain.preference import Role

T = TypeVar("T")


class Purpose(StrEnum):
    """What a request is for; the ledger counts by it."""

    EXPLAIN = "explain"
    SIMULATE = "simulate"
    DETECT = "detect"
    FUZZ = "fuzz"
    EMBED = "embed"
    PROBE = "probe"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a chat prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSchema:
    """A JSON schema that the answer must follow.

    Attributes:
        text: the schema as canonical JSON.
    """

    name: str
    text: str

    @classmethod
    def of(cls, name: str, schema: Mapping[str, Any]) -> "AnswerSchema":
        """The schema written canonically."""
        text = json.dumps(schema, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return cls(name=name, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """Messages that a model is to answer.

    Attributes:
        max_tokens: limit of the answer, reasoning included.
        top_logprobs: likeliest alternatives wanted at each token of the answer; 0 for none.
        template: name, version and hash of the prompt template.
        sample: number of the sample; two samples of one prompt are different requests.
    """

    purpose: Purpose
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    schema: AnswerSchema | None = None
    top_logprobs: int = 0
    template: str = ""
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """A prompt of whose own tokens the log-probabilities are wanted; nothing is generated.

    Attributes:
        token_ids: the prompt as ids; None when only text can be sent.
        text: the prompt as text.
        top_logprobs: likeliest alternatives wanted at each token of the prompt.
        places: tokens of the prompt whose alternatives are kept; empty keeps all of them.
        native: ask by SGLang's own interface, not by OpenAI's.
    """

    purpose: Purpose
    token_ids: tuple[int, ...] | None
    text: str
    top_logprobs: int = 15
    places: tuple[int, ...] = ()
    native: bool = False
    template: str = ""
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts of which an embedding model's vectors are wanted, one each."""

    purpose: Purpose
    texts: tuple[str, ...]
    template: str = ""
    sample: int = 0


ModelRequest = ChatRequest | PromptRequest | EmbeddingRequest


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """One token of an answer with its likeliest alternatives, natural log-probabilities."""

    token: str
    logprob: float
    top: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptToken:
    """One token of a prompt with its likeliest alternatives.

    Attributes:
        token: its text; empty when the server does not say.
        by_text: log-probabilities by text; texts that several ids share are summed.
        by_id: log-probabilities by token id; empty when the server does not say.
    """

    token: str
    by_text: Mapping[str, float] = field(default_factory=dict)
    by_id: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request.

    Attributes:
        cached: prompt tokens that the provider had in its cache.
        reasoning: completion tokens that were not shown.
        estimated: whether the numbers are ours, because the server gave none.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model replied.

    Attributes:
        refusal: the provider's refusal text; empty when it did not refuse.
        tokens: tokens of the answer, when log-probabilities were asked for.
        prompt: tokens of the prompt, when asked for; None where the server gave nothing.
        vectors: embeddings in the order of the texts: little-endian float32 in base64, which
            keeps stored replies small.
        model: name the server answered with.
        fingerprint: the server's configuration, if it tells.
        from_cache: whether no request was sent.
    """

    text: str
    finish: Finish
    model: str
    usage: Usage = field(default_factory=Usage)
    refusal: str = ""
    tokens: tuple[GeneratedToken, ...] = ()
    prompt: tuple[PromptToken | None, ...] = ()
    vectors: tuple[str, ...] = ()
    request_id: str = ""
    fingerprint: str = ""
    from_cache: bool = False


def write_vector(vector: Float32[np.ndarray, " size"]) -> str:
    """A vector as a reply keeps it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def read_vectors(reply: Reply) -> Float32[np.ndarray, "text size"]:
    """A reply's embeddings as rows; all have one length."""
    rows = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in reply.vectors]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[T]):
    """A request and how to read its reply.

    Attributes:
        read: the answer in a reply, or a failure that says why there is none.
        repair: what to say, given the problem, so that the model may answer once more; None when
            a second try makes no sense.
    """

    request: ModelRequest
    read: Callable[[Reply], Outcome[T]]
    repair: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[T]):
    """Questions that can be asked in any order, and how their answers make one result.

    A plan without questions is answered offline.

    Attributes:
        join: the result, given one outcome a question, in their order.
    """

    questions: tuple[Question[Any], ...]
    join: Callable[[Sequence[Outcome[Any]]], Outcome[T]]


def single(question: Question[T]) -> Plan[T]:
    """The plan of one question."""
    return Plan(questions=(question,), join=lambda outcomes: outcomes[0])
