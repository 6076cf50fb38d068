"""Scores that need no chat model: information value, embedding similarity, intervention.

Source: Paulo et al., ICML 2025 (arXiv 2410.13928).
"""

import math
from collections.abc import Sequence

import numpy as np

from core.autointerp.finite import check_finite
from core.domain.explanation import Number
from core.errors import Invalid
from core.stats import auroc as _auroc
from core.stats import cosine


def auroc(labels: Sequence[Number], values: Sequence[Number]) -> float:
    """Chance that an activating context gets the larger value, ties counting half.

    NaN unless both classes are there.

    Raises:
        Invalid: not one label for each value, or a value that is not finite.

    >>> auroc([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1])
    1.0
    """
    if len(labels) != len(values):
        raise Invalid(f"{len(labels)} labels but {len(values)} values.", hint="Give one each.")
    check_finite(values)
    return _auroc(np.array(labels, dtype=bool), np.array(values, dtype=np.float64))


def information_value(loss_default: Sequence[Number], loss_explanation: Sequence[Number]) -> float:
    """Nats that an explanation saves on one context: ``sum_t (default_t - explanation_t)``.

    Args:
        loss_default: loss of each token after a description that says nothing.
        loss_explanation: loss of the same tokens after the explanation.

    Without tokens 0.

    Raises:
        Invalid: not equally many, or a loss that is not finite.
    """
    check_finite((*loss_default, *loss_explanation))
    if len(loss_default) != len(loss_explanation):
        raise Invalid("The two losses are of different length.", hint="Score the same tokens.")
    return math.fsum(d - e for d, e in zip(loss_default, loss_explanation, strict=True))


def surprisal_score(values: Sequence[Number], activating: Sequence[Number]) -> float:
    """AUROC of the information values, activating contexts against silent ones."""
    return auroc(activating, values)


def similarities(query: Sequence[Number], texts: Sequence[Sequence[Number]]) -> tuple[float, ...]:
    """Cosine of an explanation's embedding with each context's; NaN for a zero vector.

    Raises:
        Invalid: vectors of different length, or a number that is not finite.
    """
    for vector in (query, *texts):
        check_finite(vector)
        if len(vector) != len(query):
            raise Invalid("The vectors differ in length.", hint="Embed all by one model.")
    q = np.array(query, dtype=np.float64)
    return tuple(cosine(q, np.array(text, dtype=np.float64)) for text in texts)


def embedding_score(
    query: Sequence[Number], texts: Sequence[Sequence[Number]], activating: Sequence[Number]
) -> float:
    """AUROC of the similarities, activating contexts against silent ones.

    Raises:
        Invalid: as ``similarities``, and for a zero vector, which is near to nothing.
    """
    return auroc(activating, similarities(query, texts))


def intervention_score(logp_intervened: Sequence[Number], logp_clean: Sequence[Number]) -> float:
    """Mean gain in the log-probability of an explanation by reading intervened text.

    ``mean_i (log p(z | intervened_i) - log p(z | clean_i))``, nats. Scores are comparable only at
    equal strength of the intervention. NaN without prompts.

    Raises:
        Invalid: not equally many, or a number that is not finite.
    """
    check_finite((*logp_intervened, *logp_clean))
    if len(logp_intervened) != len(logp_clean):
        raise Invalid("The two lists are of different length.", hint="Score the same prompts.")
    if not logp_clean:
        return math.nan
    gains = [i - c for i, c in zip(logp_intervened, logp_clean, strict=True)]
    return math.fsum(gains) / len(gains)
