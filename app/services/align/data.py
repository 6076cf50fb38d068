"""What the data of a run hold, read without a model: rows, refusals, lengths."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from app.services.harvest.sources import is_there
from core.domain.preference import PreferenceSet, RejectedRow, RejectReason, Turn
from core.domain.views_align import PreferenceSetCard
from core.interchange.conversations import read_conversations
from core.interchange.preference_store import load_pairs, read_demo
from core.interchange.preferences import read_preferences

LARGEST_READ = 64_000_000  # bytes of a file that a page still reads by itself
_CACHED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What a source holds.

    Attributes:
        prompt_characters, answer_characters: of each training item; the longer answer of a pair.
            A conversation counts as an answer without a prompt. Empty where nobody counted them.
        first_rejected: the first row that is not used.
    """

    n_rows: int
    n_train: int
    n_held_out: int
    rejected: Mapping[RejectReason, int]
    first_rejected: RejectedRow | None
    prompt_characters: Int64[np.ndarray, " item"]
    answer_characters: Int64[np.ndarray, " item"]

    @property
    def n_rejected(self) -> int:
        """Rows that are not used."""
        return sum(self.rejected.values())


def is_readable_here(path: Path) -> bool:
    """Whether a page may read a file or folder by itself: there, and not too large."""
    if not is_there(path):
        return True  # reading it tells that it is missing
    if path.is_file():
        return path.stat().st_size <= LARGEST_READ
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) <= LARGEST_READ


def pair_facts(path: Path, *, held_out_share: float) -> DataFacts:
    """What a file or folder of pairs holds; kept in memory until the file changes.

    Raises:
        NotFound, Invalid: no such file or folder, or of no known kind.
    """
    return _pair_facts(path, _age(path), held_out_share)


def conversation_facts(path: Path, *, held_out_share: float) -> DataFacts:
    """What a file or folder of conversations holds."""
    return _conversation_facts(path, _age(path), held_out_share)


@lru_cache(maxsize=1)
def demo_facts() -> DataFacts:
    """What the set that ships holds."""
    return _facts_of(read_demo())


def stored_facts(
    data_dir: Path, content_hash: str, card: PreferenceSetCard | None = None
) -> DataFacts:
    """What a stored set holds; of a large one only what its card says, without lengths.

    Raises:
        NotFound: the file of the set is gone.
    """
    if card is None or card.n_bytes <= LARGEST_READ:
        return _stored_facts(data_dir, content_hash)
    return DataFacts(
        n_rows=card.n_rows,
        n_train=card.n_train,
        n_held_out=card.n_held_out,
        rejected={},
        first_rejected=None,
        prompt_characters=_counts([]),
        answer_characters=_counts([]),
    )


@lru_cache(maxsize=_CACHED)
def _stored_facts(data_dir: Path, content_hash: str) -> DataFacts:
    """A set's name is the hash of its content, so this never changes."""
    return _facts_of(load_pairs(data_dir, content_hash))


@lru_cache(maxsize=_CACHED)
def _pair_facts(path: Path, age: int, held_out_share: float) -> DataFacts:  # noqa: ARG001 - part of the key
    return _facts_of(read_preferences(path, held_out_share=held_out_share))


def _facts_of(found: PreferenceSet) -> DataFacts:
    train = found.train
    return DataFacts(
        n_rows=found.n_rows,
        n_train=len(train),
        n_held_out=len(found.pairs) - len(train),
        rejected=_by_reason(found.rejected),
        first_rejected=found.rejected[0] if found.rejected else None,
        prompt_characters=_counts([_characters(pair.prompt) for pair in train]),
        answer_characters=_counts(
            [max(_characters(pair.chosen), _characters(pair.rejected)) for pair in train]
        ),
    )


@lru_cache(maxsize=_CACHED)
def _conversation_facts(path: Path, age: int, held_out_share: float) -> DataFacts:  # noqa: ARG001
    found = read_conversations(path, held_out_share=held_out_share)
    train = found.train
    return DataFacts(
        n_rows=found.n_rows,
        n_train=len(train),
        n_held_out=len(found.conversations) - len(train),
        rejected=_by_reason(found.rejected),
        first_rejected=found.rejected[0] if found.rejected else None,
        prompt_characters=np.zeros(len(train), np.int64),
        answer_characters=_counts([_characters(one.turns) for one in train]),
    )


def _by_reason(rejected: tuple[RejectedRow, ...]) -> Mapping[RejectReason, int]:
    return dict(Counter(row.reason for row in rejected).most_common())


def _characters(turns: tuple[Turn, ...]) -> int:
    return sum(len(turn.content) for turn in turns)


def _counts(values: list[int]) -> Int64[np.ndarray, " item"]:
    return np.array(values, dtype=np.int64)


def _age(path: Path) -> int:
    """When the newest file of a path was written; 0 where there is none."""
    if not is_there(path):
        return 0
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return max((p.stat().st_mtime_ns for p in files), default=0)
