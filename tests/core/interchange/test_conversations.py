"""Conversations for the SFT stage: formats, refusals, and no row that vanishes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.preference import RejectReason, Role
from core.errors import Invalid
from core.interchange.conversations import parse_conversations, read_conversations
from core.interchange.rows import rows_of

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello."}


def parse(*values: object):
    return parse_conversations(rows_of(values))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "prompt_id": "1", "messages": [HI, HELLO]},
        {"prompt": [HI], "generation": [HELLO]},
        {"prompt": [HI], "output": [HELLO], "type": "sft"},
        {"prompt": "Hi", "completion": "Hello."},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {"messages": [HI, HELLO, {"role": "user", "content": "Bye"}]},
    ],
)
def test_every_format_gives_the_same_conversation(row):
    (found,) = parse(row).conversations
    assert [(turn.role, turn.content) for turn in found.turns] == [
        (Role.USER, "Hi"),
        (Role.ASSISTANT, "Hello."),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi"}, RejectReason.MISSING_FIELD),
        ({"messages": [HI]}, RejectReason.EMPTY_ANSWER),
        ({"messages": [HI, {"role": "assistant", "content": " "}]}, RejectReason.EMPTY_ANSWER),
        ({"messages": [HELLO, HI, HELLO]}, RejectReason.WRONG_TURN_ORDER),
        ({"messages": [HI, HI, HELLO]}, RejectReason.WRONG_TURN_ORDER),
        ({"messages": "Hi"}, RejectReason.WRONG_TYPE),
        ("Hi", RejectReason.NOT_AN_OBJECT),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(row, reason):
    assert [refused.reason for refused in parse(row).rejected] == [reason]


def test_a_repeated_conversation_is_refused():
    found = parse({"messages": [HI, HELLO]}, {"prompt": "Hi", "completion": "Hello."})
    assert [row.reason for row in found.rejected] == [RejectReason.DUPLICATE]


def test_a_broken_file_line_is_a_refused_row(tmp_path):
    (tmp_path / "talk.jsonl").write_text('{"messages"\n')
    found = read_conversations(tmp_path / "talk.jsonl")
    assert [row.reason for row in found.rejected] == [RejectReason.NOT_JSON]


def test_a_share_of_one_is_refused():
    with pytest.raises(Invalid):
        parse_conversations([], held_out_share=1.0)


MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.sampled_from("ab ")}
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=5)}), max_size=8))
def test_no_row_disappears(rows):
    found = parse(*rows)
    numbers = [c.row for c in found.conversations] + [r.row for r in found.rejected]
    assert sorted(numbers) == list(range(len(rows)))
