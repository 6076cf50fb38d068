"""Preference pairs and conversations: what alignment learns from, and which rows it refused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Who speaks a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Split(StrEnum):
    """Whether a pair is trained on or held out."""

    TRAIN = "train"
    EVAL = "eval"


class RejectReason(StrEnum):
    """Why a row is not used; stable codes, shown with every rejected row."""

    NOT_JSON = "not_json"  # the line cannot be parsed
    NOT_AN_OBJECT = "not_an_object"  # a list, number or string instead of fields
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BROKEN_TEXT = "broken_text"  # half a surrogate pair, or a NUL character
    UNKNOWN_ROLE = "unknown_role"
    WRONG_TURN_ORDER = "wrong_turn_order"
    EMPTY_PROMPT = "empty_prompt"
    EMPTY_ANSWER = "empty_answer"
    NO_SHARED_PROMPT = "no_shared_prompt"  # two conversations without a common beginning
    SAME_ANSWERS = "same_answers"
    SCORES_DISAGREE = "scores_disagree"  # the chosen answer scored lower than the rejected one
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"  # another row prefers the opposite


class PreferenceFormat(StrEnum):
    """What a usable row was recognised as."""

    ULTRAFEEDBACK = "ultrafeedback_binarized"  # a prompt, and conversations that repeat it
    TRL_EXPLICIT = "trl_explicit"  # a prompt, and answers as text or messages
    TRL_IMPLICIT = "trl_implicit"  # two texts or conversations that begin the same
    HALOS = "halos"  # output_A and output_B with a label
    HH = "hh"  # Anthropic's "Human:" and "Assistant:" text


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation; the content is never empty."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A prompt with the answer that is preferred and the one that is not.

    Attributes:
        prompt: turns up to the answer; ends with the user's.
        chosen: the preferred answer; starts and ends with the assistant's turn.
        rejected: the other one, of the same form.
        row: number of the source row, from 0.
    """

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    split: Split
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation whose assistant turns are imitated in the SFT stage."""

    turns: tuple[Turn, ...]
    split: Split
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A source row that is not used.

    Attributes:
        detail: which field or row is the matter, in a short sentence.
        preview: the beginning of the row as it came.
    """

    row: int
    reason: RejectReason
    detail: str
    preview: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSet:
    """Every usable pair of a source, in source order, and every row that is not.

    Attributes:
        n_rows: rows read; always the number of pairs plus the number of rejected rows.
        formats: pairs of each format that was recognised, the commonest first; empty where the
            pairs were not parsed.
    """

    pairs: tuple[PreferencePair, ...]
    rejected: tuple[RejectedRow, ...]
    n_rows: int
    formats: Mapping[PreferenceFormat, int] = field(default_factory=dict)

    @property
    def train(self) -> tuple[PreferencePair, ...]:
        """The pairs that are trained on."""
        return tuple(pair for pair in self.pairs if pair.split is Split.TRAIN)

    @property
    def held_out(self) -> tuple[PreferencePair, ...]:
        """The pairs that are only evaluated."""
        return tuple(pair for pair in self.pairs if pair.split is Split.EVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSet:
    """Every usable conversation of a source, and every row that is not."""

    conversations: tuple[Conversation, ...]
    rejected: tuple[RejectedRow, ...]
    n_rows: int

    @property
    def train(self) -> tuple[Conversation, ...]:
        """The conversations that are trained on."""
        return tuple(c for c in self.conversations if c.split is Split.TRAIN)

    @property
    def held_out(self) -> tuple[Conversation, ...]:
        """The conversations that are only evaluated."""
        return tuple(c for c in self.conversations if c.split is Split.EVAL)


def turns_key(turns: Sequence[Turn]) -> str:
    """The turns as one canonical text, equal for conversations that differ only in white space.

    >>> turns_key([Turn(role=Role.USER, content=" Hello  there ")])
    '[["user","Hello there"]]'
    """
    rows = [[turn.role.value, " ".join(turn.content.split())] for turn in turns]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def content_hash(pairs: Sequence[PreferencePair]) -> str:
    """sha256 over the pairs in their order: names the exact data of a run."""
    digest = hashlib.sha256()
    for pair in pairs:
        sides = [[[t.role.value, t.content] for t in s] for s in _sides(pair)]
        record = json.dumps([*sides, pair.split.value], ensure_ascii=False)
        digest.update(record.encode() + b"\n")
    return digest.hexdigest()


def _sides(pair: PreferencePair) -> tuple[tuple[Turn, ...], ...]:
    return (pair.prompt, pair.chosen, pair.rejected)
