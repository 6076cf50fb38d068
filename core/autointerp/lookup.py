"""The token lookup table: predict a token's activation from the token alone, without any model.

Source: Bills et al. 2023, "token lookup table" baseline. On average it beats explanations by large
language models, so it is the floor under every simulation score, and it is what explains and
simulates when no endpoint is configured.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from core.autointerp.beliefs import Belief, certain
from core.autointerp.records import SCALE_TOP
from core.autointerp.text import one_line, visible
from core.domain.activation import ActivationRecord
from core.domain.explanation import Explanation, ExplanationMethod

AUTHOR = "token lookup"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLookup:
    """Mean activation of each token over held-out records.

    Attributes:
        means: mean raw activation of each token that occurred.
        default: prediction for a token that did not occur: the mean over all tokens.
    """

    means: Mapping[str, float]
    default: float

    def predict(self, tokens: Sequence[str]) -> tuple[float, ...]:
        """Raw activation predicted for each token from itself alone."""
        return tuple(map(self.means.get, tokens, repeat(self.default)))

    def simulate(self, tokens: Sequence[str]) -> tuple[Belief, ...]:
        """Predictions on the simulator's scale, 0–10; 10 is the largest mean in the table."""
        top = max(self.means.values(), default=0.0)
        factor = SCALE_TOP / top if top > 0 else 0.0
        return tuple(certain(max(0.0, value) * factor) for value in self.predict(tokens))


def build_lookup(records: Iterable[ActivationRecord]) -> TokenLookup:
    """The table over these records; without any token it predicts 0.

    >>> table = build_lookup([ActivationRecord(tokens=("a", "b"), activations=(2.0, 0.0))])
    >>> table.predict(["a", "z"])
    (2.0, 1.0)
    """
    kept = tuple(records)
    sums: dict[str, float] = defaultdict(float)
    for record in kept:
        if any(record.activations):  # most contexts are silent, and most tokens of the others
            for place, activation in enumerate(record.activations):
                if activation:
                    sums[record.tokens[place]] += activation
    every = tuple(chain.from_iterable(record.tokens for record in kept))
    means = dict.fromkeys(every, 0.0)
    counts = Counter(filter(sums.__contains__, every))  # all others have the mean 0
    means.update((token, total / counts[token]) for token, total in sums.items())
    return TokenLookup(
        means=means,
        default=sum(sums.values()) / len(every) if every else 0.0,
    )


def explain_by_lookup(records: Sequence[ActivationRecord], *, n_tokens: int = 10) -> Explanation:
    """A sentence that lists the tokens of highest mean activation; no language model involved.

    >>> records = [ActivationRecord(tokens=(" cat", " sat"), activations=(3.0, 0.0))]
    >>> explain_by_lookup(records).text
    'tokens such as “cat”'
    """
    means = build_lookup(records).means
    ranked = sorted((t for t in means if means[t] > 0), key=lambda t: (-means[t], t))
    words = list(dict.fromkeys(visible(token.strip() or token) for token in ranked))[:n_tokens]
    listed = ", ".join(f"“{word}”" for word in words)
    return Explanation(
        text=one_line(f"tokens such as {listed}") if words else "no token: it never fires here",
        method=ExplanationMethod.TOKEN_LOOKUP,
        author=AUTHOR,
        n_records=len(records),
    )
