"""Activation records as numbers from 0 to 10 and as rows of text.

Two scales stand side by side, since peers differ: OpenAI's rounds down, delphi's rounds up.
The product shows and prompts with OpenAI's.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np

from core.autointerp.finite import check_finite
from core.autointerp.text import token_text, visible, whole_characters
from core.domain.activation import ActivationRecord
from core.domain.explanation import Number
from core.errors import Invalid

_visible_token = lru_cache(maxsize=1 << 16)(visible)  # a vocabulary's tokens come again and again

SCALE_TOP = 10
SPARSE_BELOW = 0.2
UNKNOWN = "unknown"
START, END = "<start>", "<end>"


def make_record(
    pieces: Sequence[bytes], activations: Sequence[Number], *, scored: Sequence[bool] | None = None
) -> ActivationRecord:
    r"""A record from exact token bytes, without unscored tokens such as BOS.

    Pieces that hold parts of one character become one token with the largest of their
    activations, because a prompt can only show whole characters.

    Raises:
        Invalid: not one activation, and one mark, for each piece, or a number that is not finite.

    >>> pieces = [b"<bos>", b"a", b"\xc3", b"\xa9"]
    >>> make_record(pieces, [9, 0, 1, 3], scored=[False, True, True, True])
    ActivationRecord(tokens=('a', 'é'), activations=(0.0, 3.0))
    """
    if len(activations) != len(pieces) or (scored is not None and len(scored) != len(pieces)):
        raise Invalid(
            f"{len(pieces)} tokens but {len(activations)} activations.",
            hint="Give one activation, and one mark, a token.",
        )
    keep = [i for i in range(len(pieces)) if scored is None or scored[i]]
    kept = [pieces[i] for i in keep]
    groups = whole_characters(kept)
    return ActivationRecord(
        tokens=tuple(token_text(b"".join(kept[i] for i in group)) for group in groups),
        activations=tuple(float(max(activations[keep[i]] for i in group)) for group in groups),
    )


def max_activation(records: Iterable[ActivationRecord]) -> float:
    """The largest activation over all records, at least 0; 0 without records."""
    tops = (max(record.activations, default=0.0) for record in records)
    return float(max(0.0, max(tops, default=0.0)))


def normalise_openai(
    activations: Sequence[Number], *, max_activation: Number | None = None
) -> tuple[int, ...]:
    """Whole numbers 0–10: ``min(10, floor(10 * relu(a) / max))``, in exactly this order.

    Source: openai/automated-interpretability, ``normalize_activations``.

    Args:
        activations: raw activations, finite; negative ones count as 0.
        max_activation: what becomes 10; none means the largest of the activations.

    Raises:
        Invalid: a number is not finite.

    >>> normalise_openai([0.3, 1.5])  # 10 * (0.3 / 1.5) would round down to 1
    (2, 10)

    All are 0 when the maximum is not positive.

    >>> normalise_openai([-1.0, -2.0]), normalise_openai([])
    ((0, 0), ())
    """
    top = max(activations, default=0.0) if max_activation is None else max_activation
    check_finite((*activations, top), what="Activation")
    return tuple(_scaled_down(a, top) if a > 0 else 0 for a in activations)


def normalise_delphi(activations: Sequence[Number], *, max_activation: Number) -> tuple[int, ...]:
    """Whole numbers 0–10: ``ceil(10 * a / max(max, 1e-6))`` in float32, clamped.

    Source: delphi 0.1.3, ``normalize_activations``. Any positive activation is at least 1.

    Raises:
        Invalid: a number is not finite.

    >>> normalise_delphi([0.0, 0.01, 2.0, 4.0], max_activation=4.0)
    (0, 1, 5, 10)
    """
    with np.errstate(over="ignore"):
        values = np.asarray(activations, dtype=np.float32)
        top = np.float32(max(max_activation, 1e-6))
        check_finite((*values.tolist(), max_activation, float(top)), what="Activation")
        scaled = values * np.float32(SCALE_TOP) / top
    return tuple(int(value) for value in np.clip(np.ceil(scaled), 0, SCALE_TOP))


def format_record(
    record: ActivationRecord, *, max_activation: Number | None = None, only_nonzero: bool = False
) -> str:
    r"""One record as rows ``token<tab>activation``, tokens made visible.

    What becomes 10 is ``max_activation``, by default the record's own maximum; ``only_nonzero``
    leaves out rows whose number is 0.

    >>> format_record(ActivationRecord(tokens=("a", "\n"), activations=(0.0, 4.0)))
    'a\t0\n⏎\t10'

    An empty record, or one without non-zero rows, gives an empty text.
    """
    top = max(record.activations, default=0.0) if max_activation is None else max_activation
    values = [str(value) for value in normalise_openai(record.activations, max_activation=top)]
    return _rows(record.tokens, values, show=_visible_token, only_nonzero=only_nonzero)


def format_records(
    records: Sequence[ActivationRecord],
    *,
    max_activation: Number | None = None,
    only_nonzero: bool = False,
) -> str:
    r"""Records as rows between ``<start>`` and ``<end>``, tokens made visible.

    Without ``max_activation`` the maximum of these records becomes 10, as in OpenAI's explainer.
    """
    numbers = scaled_records(records, max_activation=max_activation)
    return format_scaled(records, numbers, only_nonzero=only_nonzero)


def format_scaled(
    records: Sequence[ActivationRecord],
    numbers: Sequence[Sequence[int]],
    *,
    only_nonzero: bool = False,
) -> str:
    """As ``format_records``, with the numbers that ``scaled_records`` gave."""
    pairs = zip(records, numbers, strict=True)
    return _blocks(
        _rows(record.tokens, [*map(str, row)], show=_visible_token, only_nonzero=only_nonzero)
        for record, row in pairs
    )


def scaled_records(
    records: Sequence[ActivationRecord], *, max_activation: Number | None = None
) -> list[tuple[int, ...]]:
    """Each record's numbers 0–10; by default the largest activation of them all becomes 10."""
    top = _top_of(records, max_activation)
    return [normalise_openai(record.activations, max_activation=top) for record in records]


def format_records_openai(
    records: Sequence[ActivationRecord],
    *,
    max_activation: Number | None = None,
    omit_zeros: bool = False,
    start_indices: Sequence[int] | None = None,
) -> str:
    r"""Records exactly as OpenAI's code prints them: tokens raw, so that a tab breaks its row.

    For comparison with the peer only; prompts use ``format_records``. ``omit_zeros`` leaves out
    rows whose number is 0; ``start_indices`` says for each record how many of its first tokens
    show ``unknown``. No records, and records without rows, give one empty block.

    Raises:
        Invalid: rows both hidden and left out, or not one start for each record.
    """
    top = _top_of(records, max_activation)
    hidden = start_indices if start_indices is not None else [0] * len(records)
    if len(hidden) != len(records) or any(start < 0 for start in hidden):
        raise Invalid(
            f"{len(hidden)} starts for {len(records)} records.",
            hint="Give one whole number, at least 0, for each record.",
        )
    if omit_zeros and any(hidden):
        raise Invalid("Rows cannot be both hidden and left out.", hint="Choose one of the two.")
    texts = []
    for record, n_hidden in zip(records, hidden, strict=True):
        numbers = [str(n) for n in normalise_openai(record.activations, max_activation=top)]
        shown = [UNKNOWN] * min(n_hidden, len(numbers)) + numbers[n_hidden:]
        texts.append(_rows(record.tokens, shown, show=str, only_nonzero=omit_zeros))
    return _blocks(texts)


def nonzero_share(
    records: Sequence[ActivationRecord], *, max_activation: Number | None = None
) -> float:
    """Share of all tokens whose number on the 0–10 scale is not 0; 0 without tokens."""
    return scaled_share(scaled_records(records, max_activation=max_activation))


def scaled_share(numbers: Sequence[Sequence[int]]) -> float:
    """Share of numbers that are not 0; 0 without numbers."""
    n = sum(map(len, numbers))
    return (n - sum(row.count(0) for row in numbers)) / n if n else 0.0


def is_sparse(records: Sequence[ActivationRecord], *, max_activation: Number | None = None) -> bool:
    """Whether an explainer prompt repeats the non-zero rows: their share is strictly below 0.2."""
    return nonzero_share(records, max_activation=max_activation) < SPARSE_BELOW


def _scaled_down(value: Number, top: Number) -> int:
    if top <= 0:
        return 0
    quotient = SCALE_TOP * value / top
    if not math.isfinite(quotient):  # 10 * value left the range of floats
        quotient = float(SCALE_TOP) if value >= top else SCALE_TOP * (value / 1024) / (top / 1024)
    return min(SCALE_TOP, math.floor(quotient))


def _top_of(records: Sequence[ActivationRecord], given: Number | None) -> Number:
    return max_activation(records) if given is None else given


def _rows(
    tokens: Sequence[str], values: Sequence[str], *, show: Callable[[str], str], only_nonzero: bool
) -> str:
    pairs = zip(tokens, values, strict=True)
    return "\n".join(f"{show(t)}\t{v}" for t, v in pairs if not only_nonzero or v != "0")


def _blocks(texts: Iterable[str]) -> str:
    return f"\n{START}\n" + f"\n{END}\n{START}\n".join(texts) + f"\n{END}\n"
