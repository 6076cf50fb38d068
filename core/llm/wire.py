"""Requests as JSON bodies, and JSON answers as replies.

Servers differ: what is missing is left empty, what is there is read whatever form it has, and
nothing is believed by the status alone.
"""

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from core.domain.explanation import Answer, Failure, FailureCode, Outcome
from core.domain.llm import (
    ChatRequest,
    EmbeddingRequest,
    Finish,
    GeneratedToken,
    PromptRequest,
    PromptToken,
    Reply,
    Usage,
    write_vector,
)
from core.llm.endpoint import Endpoint

_LARGEST_LOG = 0.1  # a log-probability is at most 0, but for rounding
_FINISHES = {"stop": Finish.STOP, "length": Finish.LENGTH, "content_filter": Finish.CONTENT_FILTER}


def chat_body(endpoint: Endpoint, request: ChatRequest) -> dict[str, Any]:
    """The body of ``POST /chat/completions``."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": m.role.value, "content": m.content} for m in request.messages],
        endpoint.tokens_field.value: request.max_tokens + endpoint.extra_tokens,
    }
    if endpoint.with_sampling:
        body["temperature"] = request.temperature
        if request.seed is not None:
            body["seed"] = request.seed
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        schema = _parsed(request.schema.text)
        form = {"name": request.schema.name, "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def prompt_body(endpoint: Endpoint, request: PromptRequest) -> dict[str, Any]:
    """The body of ``POST /completions`` that asks for the prompt's own log-probabilities.

    Both ways are asked for at once: the classic echo, keyed by text, and vLLM's
    ``prompt_logprobs``, keyed by id.
    """
    prompt = request.text if request.token_ids is None else list(request.token_ids)
    return {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": 0,
        "temperature": 0.0,
        "echo": True,
        "logprobs": request.top_logprobs,
        "prompt_logprobs": request.top_logprobs,
    }


def native_body(request: PromptRequest) -> dict[str, Any]:
    """The body of SGLang's ``POST /generate`` for the log-probabilities of a prompt's tokens.

    They begin one place before the first that is kept, since the first of them is always empty.
    """
    prompt = (
        {"text": request.text}
        if request.token_ids is None
        else {"input_ids": list(request.token_ids)}
    )
    return {
        **prompt,
        "sampling_params": {"max_new_tokens": 0, "temperature": 0.0},
        "return_logprob": True,
        "logprob_start_len": _native_start(request),
        "top_logprobs_num": request.top_logprobs,
        "return_text_in_logprobs": True,
    }


def native_reply(answer: object, request: PromptRequest, *, model: str) -> Outcome[Reply]:
    """The reply in SGLang's own answer; its places are empty when it tells no log-probabilities."""
    meta = _dict(_dict(answer).get("meta_info"))
    if not meta:
        return _empty()
    own, tops = _list(meta.get("input_token_logprobs")), _list(meta.get("input_top_logprobs"))
    start = _native_start(request)
    places: list[PromptToken | None] = [None] * (start if own else 0)
    places += [_native_token(o, tops[i] if i < len(tops) else None) for i, o in enumerate(own)]
    return Answer(
        Reply(
            text="",
            finish=Finish.STOP,
            prompt=tuple(places),
            model=model,
            usage=Usage(
                prompt=_count(meta, "prompt_tokens"),
                cached=_count(meta, "cached_tokens"),
                completion=_count(meta, "completion_tokens"),
            ),
            request_id=_text(meta.get("id")),
        )
    )


def _native_start(request: PromptRequest) -> int:
    """Where log-probabilities begin; a prompt sent as text needs every token's text."""
    by_ids = request.token_ids is not None
    return max(0, min(request.places) - 1) if by_ids and request.places else 0


def _native_token(own: object, top: object) -> PromptToken:
    """One place: triples of log-probability, id and text, the token's own and its alternatives."""
    text = _text(own[2]) if isinstance(own, list) and len(own) > 2 else ""
    alternatives = _list(top)
    if not alternatives:  # the first place has none
        return PromptToken(token=text)
    ids: dict[int, float] = {}
    named: list[tuple[str, float]] = []
    for triple in (own, *alternatives):
        if not isinstance(triple, list) or len(triple) < 2:
            continue
        log, token_id = _log(triple[0]), triple[1]
        if log is None or not isinstance(token_id, int) or token_id in ids:
            continue
        ids[token_id] = log
        named.append((_text(triple[2]) if len(triple) > 2 else "", log))
    return PromptToken(token=text, by_text=_summed(pair for pair in named if pair[0]), by_id=ids)


def embedding_body(endpoint: Endpoint, request: EmbeddingRequest) -> dict[str, Any]:
    """The body of ``POST /embeddings``; plain numbers, which every server can send."""
    return {
        "model": endpoint.model,
        "input": list(request.texts),
        "encoding_format": "float",
    }


def embedding_reply(answer: object, *, n: int, request_id: str = "") -> Outcome[Reply]:
    """The vectors of n texts; a failure unless every text has one, all of one length."""
    entries = sorted((_dict(entry) for entry in _list(_dict(answer).get("data"))), key=_place)
    vectors = [_vector(entry.get("embedding")) for entry in entries]
    good = [vector for vector in vectors if vector is not None]
    if len(entries) != n or len(good) != n:
        message = f"{len(good)} embeddings came back for {n} texts."
        return Failure(code=FailureCode.COUNT, message=message)
    if len({len(vector) for vector in good}) > 1:
        return Failure(code=FailureCode.PARSE, message="The embeddings differ in length.")
    return Answer(
        Reply(
            text="",
            finish=Finish.STOP,
            vectors=tuple(write_vector(vector) for vector in good),
            request_id=request_id,
            **_about(answer),
        )
    )


def chat_reply(answer: object, *, request_id: str = "") -> Outcome[Reply]:
    """The reply in a chat completion's JSON; a failure when it has no choice."""
    choice = _first_choice(answer)
    message = _dict(choice.get("message"))
    if not message:
        return _empty()
    content = _list(_dict(choice.get("logprobs")).get("content"))
    tokens = (_generated(_dict(entry)) for entry in content)
    return Answer(
        Reply(
            text=_text(message.get("content")),
            finish=_finish(choice.get("finish_reason")),
            refusal=_text(message.get("refusal")),
            tokens=tuple(token for token in tokens if token is not None),
            request_id=request_id,
            **_about(answer),
        )
    )


def prompt_reply(
    answer: object, *, places: tuple[int, ...] = (), request_id: str = ""
) -> Outcome[Reply]:
    """The reply to an echoed prompt; its places are empty when the server ignored the question.

    Alternatives are kept at ``places`` only, or everywhere when it is empty.
    """
    choice = _first_choice(answer)
    if not choice:
        return _empty()
    return Answer(
        Reply(
            text=_text(choice.get("text")),
            finish=_finish(choice.get("finish_reason")),
            prompt=_prompt_places(choice, frozenset(places)),
            request_id=request_id,
            **_about(answer),
        )
    )


def _about(answer: object) -> dict[str, Any]:
    data = _dict(answer)
    return {
        "model": _text(data.get("model")),
        "usage": _usage(data.get("usage")),
        "fingerprint": _text(data.get("system_fingerprint")),
    }


def _prompt_places(
    choice: Mapping[str, Any], kept: frozenset[int]
) -> tuple[PromptToken | None, ...]:
    logprobs = _dict(choice.get("logprobs"))
    tokens, tops = _list(logprobs.get("tokens")), _list(logprobs.get("top_logprobs"))
    by_id = _list(choice.get("prompt_logprobs"))
    places: list[PromptToken | None] = []
    for i in range(max(len(by_id), len(tops))):
        token = _text(tokens[i]) if i < len(tokens) else ""
        if kept and i not in kept:
            places.append(PromptToken(token=token) if token else None)
            continue
        top = _dict(tops[i]) if i < len(tops) else {}
        places.append(_prompt_token(token, top, _dict(by_id[i]) if i < len(by_id) else {}))
    return tuple(places)


def _prompt_token(token: str, top: Mapping[str, Any], by_id: Mapping[str, Any]) -> PromptToken:
    ids: dict[int, float] = {}
    named: list[tuple[str, float]] = []
    for key, entry in by_id.items():
        log = _log(_dict(entry).get("logprob"))
        if log is None or not key.isdecimal():
            continue
        ids[int(key)] = log
        named.append((_text(_dict(entry).get("decoded_token")), log))
    logs = ((_text(text), _log(value)) for text, value in top.items())
    pairs = [(text, log) for text, log in logs if log is not None]
    return PromptToken(token=token, by_text=_summed(pairs or named), by_id=ids)


def _generated(entry: Mapping[str, Any]) -> GeneratedToken | None:
    own, own_log = _text(entry.get("token")), _log(entry.get("logprob"))
    if own_log is None:
        return None
    pairs = []
    for alternative in _list(entry.get("top_logprobs")):
        log = _log(_dict(alternative).get("logprob"))
        if log is not None:
            pairs.append((_text(_dict(alternative).get("token")), log))
    if all(text != own for text, _ in pairs):
        pairs.append((own, own_log))
    return GeneratedToken(token=own, logprob=own_log, top=_summed(pairs))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """A schema as JSON values; nobody changes them."""
    return json.loads(text)


def _place(entry: Mapping[str, Any]) -> int:
    index = entry.get("index")
    return index if isinstance(index, int) else 0


def _vector(numbers: object) -> Float32[np.ndarray, " size"] | None:
    """A vector of finite numbers; None for anything else."""
    values = _list(numbers)
    if not values or any(_number(value) is None for value in values):
        return None
    vector = np.array(values, dtype="<f4")
    return vector if np.isfinite(vector).all() else None


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Log-probabilities by text; two ids of the same text are summed, neither is lost."""
    found: dict[str, float] = {}
    for text, log in pairs:
        found[text] = float(np.logaddexp(found[text], log)) if text in found else log
    return found


def _usage(usage: object) -> Usage:
    data = _dict(usage)
    if not data:
        return Usage(estimated=True)
    return Usage(
        prompt=_count(data, "prompt_tokens"),
        cached=_count(_dict(data.get("prompt_tokens_details")), "cached_tokens"),
        completion=_count(data, "completion_tokens"),
        reasoning=_count(_dict(data.get("completion_tokens_details")), "reasoning_tokens"),
    )


def _count(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _first_choice(answer: object) -> Mapping[str, Any]:
    choices = _list(_dict(answer).get("choices"))
    return _dict(choices[0]) if choices else {}


def _finish(reason: object) -> Finish:
    return _FINISHES.get(reason, Finish.OTHER) if isinstance(reason, str) else Finish.OTHER


def _log(value: object) -> float | None:
    """A log-probability; None for what is none. Minus infinity is kept."""
    number = _number(value)
    return None if number is None or number > _LARGEST_LOG else number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return None if math.isnan(number) else number


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """A text that any encoding can hold: half a surrogate pair becomes a question mark."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _empty() -> Failure:
    return Failure(code=FailureCode.SERVER, message="The server's answer holds no choice.")
