"""How other tools read answers and compute scores, defects included.

For comparison with their published numbers only: the product's own rules are in ``answers``,
``judging`` and ``simulation``. What each of these gets wrong is said at the function and shown by
a test.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.autointerp.finite import check_log
from core.autointerp.records import SCALE_TOP
from core.domain.explanation import Number
from core.errors import AnswerUnparsable, Invalid

UNPARSED_BY_DELPHI = "Explanation could not be parsed."
_ROW_END = "\u0f17\n"
_NUMBERS = {str(number): number for number in range(SCALE_TOP + 1)}
_NOT_END_OF_TEXT = "<|not_endoftext|>"


def simulated_text_openai(completion: str, tokens: Sequence[str]) -> tuple[float, ...]:
    """OpenAI's reading of rows ``token<tab>number U+0F17``; whatever is wrong becomes 0.

    Defects: the last row keeps its separator and is 0 unless the separator is missing; one changed
    token makes everything 0. Without tokens there is nothing to read.
    """
    if not tokens:
        return ()
    rows = completion.strip("\n").split(_ROW_END)
    start = next((i for i, row in enumerate(rows) if row.startswith(f"{tokens[0]}\t")), None)
    if start is None or len(rows) - start != len(tokens):
        return (0.0,) * len(tokens)
    pairs = list(zip(rows[start:], tokens, strict=True))
    if not all(row.startswith(f"{token}\t") for row, token in pairs):
        return (0.0,) * len(tokens)
    return tuple(float(_NUMBERS.get(row.split("\t")[1], 0)) for row, _ in pairs)


def simulated_text_fork(completion: str, tokens: Sequence[str]) -> tuple[float, ...]:
    """The same rows as OpenAI meant them, by the ``automated-interpretability`` fork 0.0.24.

    The last separator is dropped, fractions count, a lost leading space is forgiven. Failures are
    still 0. Without tokens there is nothing to read.
    """
    if not tokens:
        return ()
    trimmed = completion.strip("\n").strip(_ROW_END)
    rows = trimmed.split(_ROW_END)
    rows = trimmed.split("\n") if len(rows) == 1 else rows
    first = [i for i, row in enumerate(rows) if _fork_row_starts(row, tokens[0])]
    if not first or len(rows) - first[0] != len(tokens):
        return (0.0,) * len(tokens)
    pairs = list(zip(rows[first[0] :], tokens, strict=True))
    if not all(_fork_row_matches(row, token) for row, token in pairs):
        return (0.0,) * len(tokens)
    cells = [row.split("\t") for row, _ in pairs]
    return tuple(_number_or_zero(cell[1]) if len(cell) == 2 else 0.0 for cell in cells)


def simulated_json_fork(completion: str, tokens: Sequence[str]) -> tuple[float, ...]:
    """The fork's and delphi's reading of ``{"activations": [{"token", "activation"}]}``.

    Tokens are not compared. Defects: a wrong count or broken JSON makes everything 0, a value out
    of range becomes 0.
    """
    zeros = (0.0,) * len(tokens)
    try:
        answer = json.loads(completion)
    except (json.JSONDecodeError, RecursionError):
        return zeros
    entries = answer.get("activations") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or len(entries) != len(tokens):
        return zeros
    return tuple(
        _number_or_zero(entry["activation"])
        if isinstance(entry, dict) and "token" in entry and "activation" in entry
        else 0.0
        for entry in entries
    )


class DelphiParseError(StrEnum):
    """Why delphi cannot read a list of verdicts; the whole batch is then lost."""

    NO_MATCH = "error:no_match"
    JSON = "error:json"
    LENGTH = "error:length"


def verdicts_delphi(text: str, n_shown: int) -> tuple[bool, ...] | DelphiParseError:
    """Delphi's reading of a Python list of 0 and 1: the first brackets on one line.

    Defect: the length must equal the configured batch size, so a shorter last batch always fails.
    """
    match = re.search(r"\[.*?\]", text)
    if match is None:
        return DelphiParseError.NO_MATCH
    try:
        values = json.loads(match.group())
    except (json.JSONDecodeError, RecursionError):
        return DelphiParseError.JSON
    if len(values) != n_shown:
        return DelphiParseError.LENGTH
    return tuple(bool(value) for value in values)


def probability_delphi(top_logprobs: Sequence[Sequence[str | Number]]) -> float:
    """Delphi's P(1) at one output token: texts with a "0" against texts with a "1" and no "0".

    Each pair is (token, log-probability). Defects: "10" counts as 0, and without any digit the
    probability is 0.

    Raises:
        Invalid: NaN or +inf is no log-probability.
    """
    p_zero = p_one = 0.0
    for token, logprob in top_logprobs:
        check_log(float(logprob))
        if "0" in str(token):
            p_zero += math.exp(float(logprob))
        elif "1" in str(token):
            p_one += math.exp(float(logprob))
    return p_one / (p_zero + p_one) if p_zero + p_one > 0 else 0.0


def explanation_delphi(text: str) -> str:
    """Delphi's explanation: all after the first ``[EXPLANATION]:``.

    Defect: without the tag a sentence about the failure is stored, and scored, as if it were one.
    """
    match = re.search(r"\[EXPLANATION\]:\s*(.*)", text, re.DOTALL)
    return match.group(1).strip() if match else UNPARSED_BY_DELPHI


def explanation_neuronpedia(text: str) -> str:
    """Neuronpedia's ``np_max-act`` explanation: what follows the last ``Explanation: ``.

    One final period is dropped first. An answer that names "method 1" … "method 5" is discarded as
    an empty text.

    Raises:
        AnswerUnparsable: nothing is left.
    """
    cleaned = text.strip().removesuffix(".")
    for tag in ("Explanation: ", "explanation: "):
        if tag in cleaned:
            cleaned = cleaned.rsplit(tag, 1)[1]
            break
    if any(f"method {i}" in cleaned.lower() for i in range(1, 6)):
        return ""
    if not cleaned.strip():
        raise AnswerUnparsable("The explanation is empty.", raw=text)
    return cleaned.strip()


def explanation_saebench(text: str) -> str:
    """SAEBench's explanation: what follows the last "activates on", without final periods."""
    return text.split("activates on")[-1].rstrip(".").strip()


def predictions_saebench(text: str) -> tuple[int, ...] | None:
    """SAEBench's list of activating numbers, from 1; None when something else stands in it."""
    cleaned = text.strip().rstrip(".").replace("and", ",").replace("None", "")
    words = [word.strip() for word in cleaned.split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        return None
    return tuple(int(word) for word in words)


def score_saebench(predictions: Sequence[int], active: Sequence[bool]) -> float:
    """SAEBench's score: plain accuracy over all contexts, numbered from 1.

    Defect: with 4 of 14 active, answering "None" scores 0.714.
    """
    if not active:
        raise Invalid("No contexts to score.", hint="Give at least one.")
    named = set(predictions)
    hits = [(number in named) == is_active for number, is_active in enumerate(active, start=1)]
    return sum(hits) / len(hits)


def recall_alt_neuronpedia(
    top: Sequence[bool | str], zero: Sequence[bool | str], decoy: Sequence[bool | str]
) -> float:
    """Neuronpedia's ``recall_alt``: matched positives plus unmatched negatives, over all.

    Each entry is the judge's answer or the text "Error". Defects: an error on a negative counts as
    correct, and "always match" scores 20 of 30.

    Raises:
        AnswerUnparsable: every positive is an error, or there is none.
    """
    if all(answer == "Error" for answer in top):
        raise AnswerUnparsable("Every request on the positives failed.")
    negatives = [*zero, *decoy]
    hits = sum(answer is True for answer in top) + sum(answer is not True for answer in negatives)
    return hits / (len(top) + len(negatives))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClassification:
    """Delphi's and Neuronpedia's numbers over judged contexts; what is undefined is 0.

    Attributes:
        balanced_accuracy: delphi's printed "accuracy"; a missing class counts as 0.
        neuronpedia_balanced_accuracy: 0 when there are no negatives.
        n_failed: rows without a prediction, which delphi reports as 0.
    """

    tp: int
    tn: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    balanced_accuracy: float
    plain_accuracy: float
    n_scored: int
    n_failed: int
    neuronpedia_balanced_accuracy: float


def classification_peers(rows: Sequence[Sequence[bool | None]]) -> PeerClassification:
    """The peers' numbers over rows of (activating, prediction or None)."""
    answered = [(bool(a), bool(p)) for a, p in rows if p is not None]
    tp, fn = answered.count((True, True)), answered.count((True, False))
    fp, tn = answered.count((False, True)), answered.count((False, False))
    precision, recall, specificity = _or_0(tp, tp + fp), _or_0(tp, tp + fn), _or_0(tn, tn + fp)
    balanced = (recall + specificity) / 2
    return PeerClassification(
        tp=tp,
        tn=tn,
        fp=fp,
        fn=fn,
        precision=precision,
        recall=recall,
        f1=_or_0(2 * precision * recall, precision + recall),
        balanced_accuracy=balanced,
        plain_accuracy=_or_0(tp + tn, len(answered)),
        n_scored=len(answered),
        n_failed=len(rows) - len(answered),
        neuronpedia_balanced_accuracy=balanced if tn + fp else 0.0,
    )


def _fork_row_starts(row: str, token: str) -> bool:
    replaced = row.startswith(_NOT_END_OF_TEXT) and token.strip() == "<|endoftext|>"
    return row.startswith(f"{token}\t") or f" {row}".startswith(f"{token}\t") or replaced


def _fork_row_matches(row: str, token: str) -> bool:
    return _fork_row_starts(row, token) or row.startswith(_NOT_END_OF_TEXT)


def _number_or_zero(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever the answer holds
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if 0 <= number <= SCALE_TOP else 0.0


def _or_0(part: Number, whole: Number) -> float:
    return part / whole if whole else 0.0
