"""Numbers that mean something: what is not finite is refused, not carried on."""

import math
from collections.abc import Iterable

from core.domain.explanation import Number
from core.errors import Invalid


def check_finite(numbers: Iterable[Number], *, what: str = "The number") -> None:
    """Refuse NaN and infinities.

    >>> check_finite([0, 1.5])
    >>> check_finite([math.inf])
    Traceback (most recent call last):
    core.errors.Invalid: The number inf is not finite. Give finite numbers only.

    Raises:
        Invalid: a number is not finite.
    """
    given = tuple(numbers)
    if not all(map(math.isfinite, given)):
        bad = next(number for number in given if not math.isfinite(number))
        raise Invalid(f"{what} {bad} is not finite.", hint="Give finite numbers only.")


def check_log(logprob: Number) -> None:
    """Refuse what is no log-probability: NaN and +inf; -inf is the logarithm of 0.

    Raises:
        Invalid: it is none.
    """
    if math.isnan(logprob) or logprob == math.inf:
        raise Invalid(f"{logprob} is no log-probability.", hint="Give natural logarithms.")
