"""Which place of a server's answer belongs to which row of an all-at-once prompt.

Rows are found by offsets that were recorded while the prompt was built, never by searching the
text: a token that reads ``<start>`` would move the place that a search finds.
"""

from collections.abc import Mapping, Sequence

from core.autointerp.beliefs import Belief, expected_value
from core.autointerp.records import START, UNKNOWN
from core.domain.explanation import Answer, Failure, FailureCode, Number, Outcome


def unknown_offsets(tokens: Sequence[str], *, block_start: int) -> tuple[int, ...]:
    r"""Character offset of each row's ``unknown``, for a block whose ``<start>`` is at block_start.

    >>> unknown_offsets(["a", "bc"], block_start=0)  # <start>\na\tunknown\nbc\tunknown
    (10, 21)
    """
    place = block_start + len(START) + 1
    offsets = []
    for token in tokens:
        place += len(token) + 1
        offsets.append(place)
        place += len(UNKNOWN) + 1
    return tuple(offsets)


def read_unknowns(
    response_tokens: Sequence[str],
    top_logprobs: Sequence[Mapping[str, Number] | None],
    offsets: Sequence[int],
) -> Outcome[tuple[Belief, ...]]:
    """The belief at each ``unknown``, by the running length of the server's own tokens.

    Args:
        response_tokens: the prompt as the server cut it, whose joined text is the prompt.
        top_logprobs: log-probabilities of the likeliest tokens at each place.
        offsets: character offset of each row's ``unknown`` in the prompt.

    Returns:
        A failure when a row's place does not start a token or holds no number; never a 0.
    """
    places = places_at(response_tokens, offsets)
    if isinstance(places, Failure):
        return places
    beliefs = []
    for place in places:
        candidates = top_logprobs[place] if place < len(top_logprobs) else None
        if not candidates:
            return Failure(
                code=FailureCode.NO_LOGPROBS,
                message=f"No log-probabilities at token {place} of the prompt.",
            )
        outcome = expected_value(candidates)
        if isinstance(outcome, Failure):
            return outcome
        beliefs.append(outcome.value)
    return Answer(tuple(beliefs))


def places_at(response_tokens: Sequence[str], offsets: Sequence[int]) -> tuple[int, ...] | Failure:
    """For each character offset the place of the token that starts there, or a failure."""
    starts: dict[int, int] = {}
    length = 0
    for place, token in enumerate(response_tokens):
        if token:
            starts.setdefault(length, place)
        length += len(token)
    lost = [offset for offset in offsets if offset not in starts]
    if lost:
        return Failure(
            code=FailureCode.PARSE,
            message=f"{len(lost)} of {len(offsets)} rows do not begin at a token of the server.",
        )
    return tuple(starts[offset] for offset in offsets)
