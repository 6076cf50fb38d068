"""Beliefs: a simulator's distribution over the numbers 0–10 for one token, and its mean.

``expected_value`` is the product's rule. Peers read the same log-probabilities otherwise; their
arithmetic stands beside it for comparison with their published numbers.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from core.autointerp.finite import check_finite, check_log
from core.autointerp.records import SCALE_TOP
from core.domain.explanation import Answer, Failure, FailureCode, Number, Outcome
from core.errors import Invalid

_DIGITS = re.compile(r"(?:10|[0-9])", re.ASCII)
LOW_MASS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What a simulator believes of one token's activation.

    Attributes:
        expected: mean of the distribution, 0–10.
        distribution: probability of each number, summing to 1; empty when only a number is known.
        mass: share of all probability that fell on numbers, before normalising; below 0.5 the
            simulator hardly answered the question. None when unknown.
    """

    expected: float
    distribution: Mapping[int, float]
    mass: float | None = None


def expected_value(top_logprobs: Mapping[str, Number]) -> Outcome[Belief]:
    r"""The belief in a token's likeliest continuations, by the product's rule.

    White space around a number is dropped and equal numbers are summed; the sum is taken in
    log space, so that very small probabilities stay apart. Without any number it is a failure,
    never a 0.

    Raises:
        Invalid: NaN or +inf is no log-probability.

    >>> logs = {"3": math.log(0.6), " 3": math.log(0.1), "0": math.log(0.1)}
    >>> expected_value(logs).value.expected
    2.625
    >>> expected_value({"unknown": -0.01}).code
    <FailureCode.NO_DIGITS: 'no_digits'>
    """
    logs: dict[int, list[float]] = {}
    for token, logprob in top_logprobs.items():
        check_log(logprob)
        number = token.strip(" \t\n\r▁Ġ")
        if _DIGITS.fullmatch(number) and logprob > -math.inf:
            logs.setdefault(int(number), []).append(float(logprob))
    return belief_from_logs({number: log_sum(values) for number, values in logs.items()})


def belief_from_ids(
    logprobs: Mapping[int, Number], number_ids: Mapping[int, tuple[int, ...]]
) -> Outcome[Belief]:
    """The belief in log-probabilities keyed by token id; immune to what the text looks like.

    Args:
        logprobs: log-probability of each of the likeliest ids.
        number_ids: for each number 0–10 the ids that mean it.

    Raises:
        Invalid: NaN or +inf is no log-probability.
    """
    for logprob in logprobs.values():
        check_log(logprob)
    found = {
        number: [float(logprobs[i]) for i in ids if i in logprobs and logprobs[i] > -math.inf]
        for number, ids in number_ids.items()
    }
    return belief_from_logs({number: log_sum(logs) for number, logs in found.items() if logs})


def belief_from_logs(logs: Mapping[int, float]) -> Outcome[Belief]:
    """The belief given one log-probability a number; a failure without numbers."""
    if not logs:
        return Failure(
            code=FailureCode.NO_DIGITS,
            message="None of the likeliest tokens is a number from 0 to 10.",
        )
    total = log_sum(list(logs.values()))
    distribution = {number: math.exp(logs[number] - total) for number in sorted(logs)}
    expected = sum(number * p for number, p in distribution.items())
    return Answer(
        Belief(expected=expected, distribution=distribution, mass=min(1.0, math.exp(total)))
    )


def certain(number: Number) -> Belief:
    """The belief behind a plain number: no distribution is known."""
    return Belief(expected=float(number), distribution={})


def log_sum(logs: list[float]) -> float:
    """``log(sum(exp(logs)))``; -inf without values."""
    return float(np.logaddexp.reduce(logs)) if logs else -math.inf


def expected_value_split_ten(
    p_first: Mapping[str, Number], p_second_given_1: Mapping[str, Number]
) -> Belief:
    r"""The belief when "10" is two tokens: P(10) = P(1) P(0 | 1) and P(1) keeps the rest.

    Args:
        p_first: probabilities of the first token.
        p_second_given_1: probabilities of the token after a first "1".

    Without any number the mass is 0 and so is the expected value: look at the mass first.

    Raises:
        Invalid: a probability is not finite, or below 0.

    >>> expected_value_split_ten({"1": 0.9, "0": 0.1}, {"0": 0.95, "\n": 0.05}).expected
    8.595
    """
    first = _numbers(p_first)
    ten = first.pop(1, 0.0)
    zero_after_one = _numbers(p_second_given_1).get(0, 0.0)
    split = {1: ten * (1 - zero_after_one), SCALE_TOP: first.pop(SCALE_TOP, 0.0)}
    split[SCALE_TOP] += ten * zero_after_one
    found = {n: p for n, p in {**first, **split}.items() if p > 0}
    total = sum(found.values())
    distribution = {n: found[n] / total for n in sorted(found)} if total > 0 else {}
    expected = float(sum(number * p for number, p in distribution.items()))
    return Belief(expected=expected, distribution=distribution, mass=float(total))


def expected_value_openai(top_logprobs: Mapping[str, Number]) -> Belief:
    """OpenAI's arithmetic: the exact texts "0" … "10" only; without any, 0 in silence.

    Source: openai/automated-interpretability, ``compute_predicted_activation_stats_for_token``.

    Raises:
        Invalid: NaN or +inf is no log-probability.
    """
    for logprob in top_logprobs.values():
        check_log(logprob)
    exact = {int(t): float(lp) for t, lp in top_logprobs.items() if _DIGITS.fullmatch(t)}
    return _belief_of_peer(exact)


def expected_value_delphi(top_logprobs: Mapping[str, Number]) -> Belief:
    """Delphi's arithmetic: whatever Python's ``int`` reads, a later equal number overwriting.

    Source: eai-delphi 0.1.3, ``parse_top_logprobs``. Without any number, 0.

    Raises:
        Invalid: NaN or +inf is no log-probability.
    """
    logs: dict[int, float] = {}
    for token, logprob in top_logprobs.items():
        check_log(logprob)
        try:
            number = int(token)
        except ValueError:
            continue
        if 0 <= number <= SCALE_TOP:
            logs[number] = float(logprob)
    return _belief_of_peer(logs)


def _belief_of_peer(logs: Mapping[int, float]) -> Belief:
    """The belief of those who keep a number of probability 0, and read no number as 0."""
    match belief_from_logs({n: logprob for n, logprob in logs.items() if logprob > -math.inf}):
        case Answer(belief):
            kept = {number: belief.distribution.get(number, 0.0) for number in sorted(logs)}
            return replace(belief, distribution=kept)
        case Failure():
            return Belief(expected=0.0, distribution={}, mass=0.0)


def _numbers(probabilities: Mapping[str, Number]) -> dict[int, float]:
    check_finite(probabilities.values(), what="The probability")
    if any(p < 0 for p in probabilities.values()):
        raise Invalid("A probability is below 0.", hint="Give probabilities, not their logarithms.")
    found: dict[int, float] = {}
    for token, p in probabilities.items():
        number = token.strip()
        if _DIGITS.fullmatch(number):
            found[int(number)] = found.get(int(number), 0.0) + float(p)
    return found
