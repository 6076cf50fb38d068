"""Conversations for the SFT stage: UltraChat messages, HALOs and prompt-completion rows."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from core.domain.preference import (
    Conversation,
    ConversationSet,
    RejectedRow,
    RejectReason,
    Role,
    Turn,
    turns_key,
)
from core.errors import Invalid
from core.interchange.preferences import split_of
from core.interchange.rows import Row, read_rows
from core.interchange.turns import (
    RowRejected,
    check_alternation,
    parse_messages,
    text_turn,
)

_ANSWER_FIELDS = ("output", "generation", "completion", "response")


def read_conversations(path: Path, *, held_out_share: float = 0.0) -> ConversationSet:
    """Conversations of a file or folder; see ``parse_conversations``."""
    return parse_conversations(read_rows(path), held_out_share=held_out_share)


def parse_conversations(rows: Iterable[Row], *, held_out_share: float = 0.0) -> ConversationSet:
    """Every row as a conversation or as a rejected row with its reason.

    A row holds ``messages`` (UltraChat), or ``prompt`` with one of ``output``, ``generation``,
    ``completion``, ``response`` (HALOs and prompt-completion), each text or messages.
    """
    if not 0 <= held_out_share < 1:
        raise Invalid(f"A held-out share of {held_out_share} is outside [0, 1).")
    kept: list[Conversation] = []
    rejected: list[RejectedRow] = []
    seen: dict[str, int] = {}
    for row in rows:
        try:
            conversation = _parse_row(row, held_out_share)
            _check_new(conversation, seen)
        except RowRejected as verdict:
            rejected.append(verdict.on(row))
        else:
            kept.append(conversation)
    return ConversationSet(
        conversations=tuple(kept), rejected=tuple(rejected), n_rows=len(kept) + len(rejected)
    )


def _parse_row(row: Row, held_out_share: float) -> Conversation:
    if row.problem:
        raise RowRejected(RejectReason.NOT_JSON, row.problem)
    if not isinstance(row.value, Mapping):
        raise RowRejected(RejectReason.NOT_AN_OBJECT, "The row is not an object with fields.")
    turns = _turns(row.value)
    if not any(turn.role is Role.ASSISTANT for turn in turns):
        raise RowRejected(RejectReason.EMPTY_ANSWER, "The assistant says nothing.")
    if any(not turn.content.strip() for turn in turns):
        raise RowRejected(RejectReason.EMPTY_ANSWER, "A turn has no text.")
    check_alternation(turns)
    if next(t.role for t in turns if t.role is not Role.SYSTEM) is not Role.USER:
        raise RowRejected(RejectReason.WRONG_TURN_ORDER, "The assistant speaks first.")
    if turns[-1].role is not Role.ASSISTANT:
        turns = turns[:-1]  # a last word by the user teaches nothing
    opening = tuple(turn for turn in turns[:2] if turn.role is not Role.ASSISTANT)
    return Conversation(turns=turns, split=split_of(row, opening, held_out_share), row=row.number)


def _check_new(conversation: Conversation, seen: dict[str, int]) -> None:
    twin = seen.setdefault(turns_key(conversation.turns), conversation.row)
    if twin != conversation.row:
        raise RowRejected(RejectReason.DUPLICATE, f"Row {twin} says the same.")


def _turns(value: Mapping[str, object]) -> tuple[Turn, ...]:
    messages = value.get("messages", value.get("conversations"))
    if messages is not None:
        return parse_messages(messages, field="messages")
    prompt = value.get("prompt")
    answer = next((value[f] for f in _ANSWER_FIELDS if value.get(f) is not None), None)
    if prompt is None or answer is None:
        raise RowRejected(
            RejectReason.MISSING_FIELD, "Neither messages nor a prompt with its completion."
        )
    return _side(prompt, Role.USER, "prompt") + _side(answer, Role.ASSISTANT, "completion")


def _side(value: object, role: Role, field: str) -> tuple[Turn, ...]:
    if isinstance(value, str):
        return text_turn(value, role=role, field=field)
    return parse_messages(value, field=field)
