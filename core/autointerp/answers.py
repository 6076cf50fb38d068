"""What a model's answer says, or why it cannot be read. Nothing unreadable becomes 0 or a text."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.autointerp.beliefs import Belief, certain, expected_value, expected_value_split_ten
from core.autointerp.records import SCALE_TOP
from core.autointerp.text import one_line
from core.domain.explanation import Answer, Failure, FailureCode, Outcome
from core.domain.llm import Finish, GeneratedToken, Reply

_TAG = re.compile(r"\[EXPLANATION\]\s*[:：]\s*", re.IGNORECASE)
_LEADS = re.compile(
    r"^(?:explanation(?: of neuron \d+ behavior)?\s*[:：]\s*)?"
    r"(?:the main thing this neuron does is find\s*"
    r"|this (?:neuron|feature) (?:fires|activates) on\s+"
    r"|该神经元主要寻找的是[:：]?\s*)?",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"^(?:i['’]?m sorry|i am sorry|sorry,|i can(?:no|['’])t (?:help|assist|comply|provide|answer)"
    r"|i(?: am|['’]m) (?:unable|not able) to|as an ai\b"
    r"|抱歉|对不起|很抱歉|我无法|作为(?:一个)?(?:ai|人工智能))",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_SENTENCE_END = re.compile(r"[.!?。！？](?:\s|$)|[。！？]")
_LIST = re.compile(r"\[[^\[\]]*\]")
_RAW_CHARS = 2_000


def read_explanation(reply: Reply) -> Outcome[str]:
    """The explanation in an answer, as one harmless line.

    Text before an ``[EXPLANATION]:`` tag, repeated lead-ins, Markdown's marks of emphasis and one
    final period are left out.
    An empty answer, a refusal, and an answer cut before its first sentence ended are failures.
    """
    text = _without_thoughts(reply.text)
    tags = list(_TAG.finditer(text))
    body = text[tags[-1].end() :] if tags else text
    if reply.finish is Finish.LENGTH:
        end = _SENTENCE_END.search(body)
        if end is None:
            return failure(FailureCode.LENGTH, "The explanation was cut at the token limit.", reply)
        body = body[: end.end()]
    if _REFUSED.match(body.strip()):
        return failure(FailureCode.REFUSAL, "The model refused to explain.", reply)
    first = next((line for line in body.splitlines() if line.strip()), "")
    plain = _EMPHASIS.sub(r"\1", first.strip())
    line = one_line(_LEADS.sub("", plain).strip(" \"“”'*"))
    line = line.removesuffix(".").removesuffix("。").strip()
    if not any(char.isalnum() for char in line):
        return failure(FailureCode.PARSE, "The answer holds no explanation.", reply)
    return Answer(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judge's answer on one context.

    Attributes:
        probability: P(1) against P(0) at the digit; None without log-probabilities.
    """

    fires: bool
    probability: float | None


def read_verdicts(reply: Reply, n: int) -> Outcome[tuple[Verdict, ...]]:
    """One verdict for each of n contexts: the last list of 0 and 1, or ``{"verdicts": [...]}``.

    Another number of entries, or anything but 0 and 1, is a failure for the whole batch; a batch
    may be of any size. Probabilities are read only where exactly n tokens hold one digit each.
    """
    if reply.finish is Finish.LENGTH:
        return failure(FailureCode.LENGTH, "The verdicts were cut at the token limit.", reply)
    lists = _LIST.findall(_without_thoughts(reply.text))
    if not lists:
        return failure(FailureCode.PARSE, "The answer holds no list of verdicts.", reply)
    try:
        values = json.loads(lists[-1])
    except json.JSONDecodeError:
        return failure(FailureCode.PARSE, "The list of verdicts cannot be read.", reply)
    if any(value not in (0, 1) or isinstance(value, str | float) for value in values):
        return failure(FailureCode.PARSE, "A verdict is neither 0 nor 1.", reply)
    if len(values) != n:
        return failure(FailureCode.COUNT, f"{len(values)} verdicts for {n} documents.", reply)
    probabilities = _digit_probabilities(reply.tokens, n)
    pairs = zip(values, probabilities, strict=True)
    return Answer(tuple(Verdict(fires=bool(value), probability=p) for value, p in pairs))


def read_sparse_activations(reply: Reply, n: int) -> Outcome[tuple[Belief, ...]]:
    """Activations of n tokens from ``{"nonzero": [{"i", "a"}]}`` or ``{"activations": [n ints]}``.

    Tokens that are not named are 0, since the answer says which ones fire. An index outside the
    document, one named twice with different values, a value outside 0–10 or a wrong count is a
    failure for the whole document.
    """
    if reply.finish is Finish.LENGTH:
        return failure(FailureCode.LENGTH, "The activations were cut at the token limit.", reply)
    try:
        data = _json_object(_without_thoughts(reply.text))
    except (ValueError, RecursionError):  # brackets without end are no answer either
        return failure(FailureCode.PARSE, "The answer is not the JSON that was asked for.", reply)
    if isinstance(data.get("activations"), list):
        return _dense(data["activations"], n, reply)
    entries = data.get("nonzero")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return failure(FailureCode.PARSE, "The answer names no activations.", reply)
    values: dict[int, float] = {}
    for entry in entries:
        place, value = entry.get("i"), _scale_number(entry.get("a"))
        if value is None or not isinstance(place, int) or isinstance(place, bool):
            return failure(FailureCode.PARSE, "An activation is no number from 0 to 10.", reply)
        if not 0 <= place < n:
            return failure(FailureCode.COUNT, f"Token {place} is not one of {n}.", reply)
        if values.setdefault(place, value) != value:
            return failure(FailureCode.PARSE, f"Token {place} is named twice.", reply)
    return Answer(tuple(certain(values.get(place, 0.0)) for place in range(n)))


def read_one_token(reply: Reply, *, top: int = SCALE_TOP) -> Outcome[Belief]:
    """The belief at the first token of an answer, with "10" put together when it is two tokens.

    A number above ``top``, on a scale 0–9, counts as no number.
    """
    if not reply.tokens:
        return failure(FailureCode.NO_LOGPROBS, "The server sent no log-probabilities.", reply)
    first = reply.tokens[0]
    if top == SCALE_TOP and first.token.strip() == "1" and len(reply.tokens) > 1:
        belief = expected_value_split_ten(_probabilities(first), _probabilities(reply.tokens[1]))
        return Answer(belief)
    candidates = {t: lp for t, lp in first.top.items() if top == SCALE_TOP or t.strip() != "10"}
    return expected_value(candidates)


def failure(code: FailureCode, message: str, reply: Reply) -> Failure:
    """A failure that keeps the raw answer, so that it can be looked at."""
    return Failure(code=code, message=message, raw=reply.text[:_RAW_CHARS])


def _dense(values: list[Any], n: int, reply: Reply) -> Outcome[tuple[Belief, ...]]:
    numbers = [_scale_number(value) for value in values]
    if any(number is None for number in numbers):
        return failure(FailureCode.PARSE, "An activation is no number from 0 to 10.", reply)
    if len(numbers) != n:
        return failure(FailureCode.COUNT, f"{len(numbers)} activations for {n} tokens.", reply)
    return Answer(tuple(certain(number) for number in numbers if number is not None))


def _scale_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= SCALE_TOP else None


def _json_object(text: str) -> dict[str, Any]:
    start, stop = text.find("{"), text.rfind("}")
    if start < 0 or stop < start:
        raise ValueError(text)
    data = json.loads(text[start : stop + 1])
    if not isinstance(data, dict):
        raise ValueError(text)  # noqa: TRY004 - one error for all that is no object
    return data


def _without_thoughts(text: str) -> str:
    """The answer after the reasoning that some servers leave in front of it."""
    return text.rsplit("</think>", 1)[-1]


def _digit_probabilities(tokens: Sequence[GeneratedToken], n: int) -> list[float | None]:
    found = [_p_one(t.top) for t in tokens if _digit(t.token) is not None]
    return list(found[-n:]) if n and len(found) >= n else [None] * n


def _p_one(top: Mapping[str, float]) -> float | None:
    sums = {"0": 0.0, "1": 0.0}
    for token, logprob in top.items():
        digit = _digit(token)
        if digit is not None:
            sums[digit] += math.exp(logprob)
    total = sum(sums.values())
    return sums["1"] / total if total > 0 else None


def _digit(token: str) -> str | None:
    digits = [char for char in token if char.isdecimal()]
    return digits[0] if len(digits) == 1 and digits[0] in "01" else None


def _probabilities(token: GeneratedToken) -> dict[str, float]:
    return {text: math.exp(logprob) for text, logprob in token.top.items()}
