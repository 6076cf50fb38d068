"""Preference pairs as pages show them: conversations, and where two answers differ."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from core.domain.preference import PreferencePair, Role, Split, Turn

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LONGEST_COMPARED = 1_500  # words of one answer; longer ones are shown unmarked
_LEAST_SHARED = 0.25  # below this share of common words, marks would cover everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of an answer; differs where the other answer says something else."""

    text: str
    differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTurn:
    """One turn in pieces."""

    role: Role
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPair:
    """A pair as a page shows it.

    Attributes:
        position: its place in the set, from 0.
        compared: whether differing words are marked.
        shared_share: share of the words of both answers that they have in common.
    """

    position: int
    row: int
    split: Split
    prompt: tuple[Turn, ...]
    chosen: tuple[ShownTurn, ...]
    rejected: tuple[ShownTurn, ...]
    compared: bool
    shared_share: float


def shown_pair(pair: PreferencePair, position: int) -> ShownPair:
    """A pair with the differing words of its answers marked, where they have much in common."""
    one, other = _words(pair.chosen), _words(pair.rejected)
    single = len(pair.chosen) == len(pair.rejected) == 1
    share, blocks = 0.0, []
    if single and max(len(one), len(other)) <= _LONGEST_COMPARED:
        matcher = SequenceMatcher(a=one, b=other, autojunk=False)
        share = _meaningful_share(one, matcher, other)
        blocks = matcher.get_matching_blocks()
    compared = share >= _LEAST_SHARED
    return ShownPair(
        position=position,
        row=pair.row,
        split=pair.split,
        prompt=pair.prompt,
        chosen=_marked(pair.chosen, one, [(b.a, b.size) for b in blocks] if compared else None),
        rejected=_marked(
            pair.rejected, other, [(b.b, b.size) for b in blocks] if compared else None
        ),
        compared=compared,
        shared_share=share,
    )


def pieces_of(words: Sequence[str], shared: Sequence[tuple[int, int]]) -> tuple[Piece, ...]:
    """Words joined to stretches, marked outside of the shared runs.

    >>> [(p.text, p.differs) for p in pieces_of(["a", " ", "b", " ", "c"], [(0, 2), (3, 2)])]
    [('a ', False), ('b', True), (' c', False)]
    """
    kept = [False] * len(words)
    for start, size in shared:
        kept[start : start + size] = [True] * size
    found: list[Piece] = []
    for word, same in zip(words, kept, strict=True):
        if found and found[-1].differs is not same:
            found[-1] = Piece(text=found[-1].text + word, differs=not same)
        else:
            found.append(Piece(text=word, differs=not same))
    return tuple(found)


def _words(turns: Sequence[Turn]) -> list[str]:
    return _WORDS.findall(turns[0].content) if len(turns) == 1 else []


def _meaningful_share(
    one: Sequence[str], matcher: "SequenceMatcher[str]", other: Sequence[str]
) -> float:
    """Twice the common words over all words, spaces and punctuation not counted."""
    common = sum(
        word[0].isalnum()
        for block in matcher.get_matching_blocks()
        for word in one[block.a : block.a + block.size]
    )
    total = sum(word[0].isalnum() for word in (*one, *other))
    return 2 * common / total if total else 0.0


def _marked(
    turns: Sequence[Turn], words: Sequence[str], shared: Sequence[tuple[int, int]] | None
) -> tuple[ShownTurn, ...]:
    if shared is not None:
        return (ShownTurn(role=turns[0].role, pieces=pieces_of(words, shared)),)
    return tuple(
        ShownTurn(role=turn.role, pieces=(Piece(text=turn.content, differs=False),))
        for turn in turns
    )
