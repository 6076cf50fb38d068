"""Conversations as other projects write them, turned into turns."""

import itertools
import re
from collections.abc import Mapping, Sequence

from core.domain.preference import RejectedRow, RejectReason, Role, Turn
from core.interchange.rows import Row

_ROLES = {
    "system": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "prompter": Role.USER,
    "assistant": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
    "bot": Role.ASSISTANT,
}
_UNENCODABLE = re.compile("[\ud800-\udfff]")
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


class RowRejected(Exception):  # noqa: N818 - a verdict on a row, caught by the reader
    """A row is not usable; the reader keeps it with its reason."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def on(self, row: Row) -> RejectedRow:
        """The row with this verdict."""
        return RejectedRow(
            row=row.number, reason=self.reason, detail=self.detail, preview=row.preview
        )


def parse_messages(value: object, *, field: str) -> tuple[Turn, ...]:
    """Turns of a list of messages with ``role``/``content`` (or ``from``/``value``) fields."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RowRejected(RejectReason.WRONG_TYPE, f"{field} is not a list of messages.")
    return tuple(_parse_message(message, field=f"{field}[{i}]") for i, message in enumerate(value))


def text_turn(value: object, *, role: Role, field: str) -> tuple[Turn, ...]:
    """One turn of plain text."""
    if not isinstance(value, str):
        raise RowRejected(RejectReason.WRONG_TYPE, f"{field} is not text.")
    return (Turn(role=role, content=_checked(value, field=field)),)


def is_hh(text: str) -> bool:
    """Whether a text is a conversation of the Anthropic HH form."""
    return _HH_TURN.match(text) is not None


def parse_hh(text: str) -> tuple[Turn, ...]:
    r"""Turns of an Anthropic HH text.

    >>> [turn.role.value for turn in parse_hh("\n\nHuman: Hi\n\nAssistant: Hello")]
    ['user', 'assistant']
    """
    parts = _HH_TURN.split(_checked(text, field="text"))
    speakers, contents = parts[1::2], parts[2::2]
    return tuple(
        Turn(role=Role.USER if who == "Human" else Role.ASSISTANT, content=content.strip())
        for who, content in zip(speakers, contents, strict=True)
    )


def shared_turns(one: Sequence[Turn], other: Sequence[Turn]) -> int:
    """Number of equal turns at the beginning, before the first that differs."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def check_prompt(prompt: tuple[Turn, ...]) -> None:
    """Refuse a prompt that is empty, has an empty turn or does not end with the user's turn."""
    if not any(turn.content.strip() for turn in prompt if turn.role is Role.USER):
        raise RowRejected(RejectReason.EMPTY_PROMPT, "The prompt has no text by the user.")
    if prompt[-1].role is not Role.USER:
        raise RowRejected(RejectReason.WRONG_TURN_ORDER, "The prompt does not end with the user.")
    for number, turn in enumerate(prompt):
        if not turn.content.strip() and turn.role is not Role.SYSTEM:
            raise RowRejected(RejectReason.EMPTY_PROMPT, f"prompt[{number}] has no text.")
    check_alternation(prompt)


def check_answer(answer: tuple[Turn, ...], *, field: str) -> None:
    """Refuse an answer that is empty or is not the assistant's."""
    if not answer or any(not turn.content.strip() for turn in answer):
        raise RowRejected(RejectReason.EMPTY_ANSWER, f"{field} has no text.")
    if answer[0].role is not Role.ASSISTANT or answer[-1].role is not Role.ASSISTANT:
        raise RowRejected(RejectReason.WRONG_TURN_ORDER, f"{field} is not the assistant's.")
    check_alternation(answer)


def check_alternation(turns: Sequence[Turn]) -> None:
    """Refuse two turns in a row by one speaker, and a system turn that is not the first."""
    for before, after in itertools.pairwise(turns):
        if before.role is after.role or after.role is Role.SYSTEM:
            raise RowRejected(
                RejectReason.WRONG_TURN_ORDER, f"A {after.role} turn follows a {before.role} turn."
            )


def _parse_message(message: object, *, field: str) -> Turn:
    if not isinstance(message, Mapping):
        raise RowRejected(RejectReason.WRONG_TYPE, f"{field} is not a message.")
    role = message.get("role", message.get("from"))
    content = _joined(message.get("content", message.get("value")))
    if role is None or content is None:
        raise RowRejected(RejectReason.MISSING_FIELD, f"{field} lacks its role or content.")
    if not isinstance(content, str):
        raise RowRejected(RejectReason.WRONG_TYPE, f"{field}.content is not text.")
    known = _ROLES.get(str(role).lower())
    if known is None:
        raise RowRejected(RejectReason.UNKNOWN_ROLE, f"{field} is spoken by {role!r}.")
    return Turn(role=known, content=_checked(content, field=f"{field}.content"))


def _joined(content: object) -> object:
    """The text of a content that is given in parts, if all of them are text; else what it was."""
    if not isinstance(content, list) or not content:
        return content
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else content


def _checked(text: str, *, field: str) -> str:
    """Text that can be encoded and stored; half of a surrogate pair and NUL cannot."""
    if "\0" in text or _UNENCODABLE.search(text):
        raise RowRejected(
            RejectReason.BROKEN_TEXT,
            f"{field} holds a NUL character, half a character, or bytes that are not UTF-8.",
        )
    return text
