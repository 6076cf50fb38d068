"""Preference files of other projects: every format, every refusal, and no row that vanishes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.preference import PreferencePair, RejectReason, Role, Split, Turn, content_hash
from core.errors import Invalid
from core.interchange.preferences import parse_preferences, read_preferences, write_preferences
from core.interchange.rows import rows_of

YES, NO, ASK = "Paris.", "I would rather not say.", "What is the capital of France?"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMATS: dict[str, dict[str, Any]] = {
    "trl explicit text": {"prompt": ASK, "chosen": YES, "rejected": NO},
    "trl explicit messages": {"prompt": [user(ASK)], "chosen": [says(YES)], "rejected": [says(NO)]},
    "text prompt with messages": {"prompt": ASK, "chosen": [says(YES)], "rejected": [says(NO)]},
    "trl implicit messages": {
        "chosen": [user(ASK), says(YES)],
        "rejected": [user(ASK), says(NO)],
    },
    "ultrafeedback binarized": {
        "prompt": ASK,
        "prompt_id": "17",
        "chosen": [user(ASK), says(YES)],
        "rejected": [user(ASK), says(NO)],
        "messages": [user(ASK), says(YES)],
        "score_chosen": 8.5,
        "score_rejected": 6.0,
    },
    "messages in parts": {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": ASK}]}],
        "chosen": [says(YES)],
        "rejected": [says(NO)],
    },
    "halos, A is better": {
        "type": "pairwise_feedback",
        "prompt": [user(ASK)],
        "output_A": [says(YES)],
        "output_B": [says(NO)],
        "label": 1,
        "reward_A": 2,
        "reward_B": 1,
    },
    "halos, B is better": {
        "prompt": [user(ASK)],
        "output_A": [says(NO)],
        "output_B": [says(YES)],
        "label": 0,
    },
    "anthropic hh": {
        "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {YES}",
        "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {NO}",
    },
    "hh prompt with texts": {
        "prompt": f"\n\nHuman: {ASK}\n\nAssistant:",
        "chosen": YES,
        "rejected": NO,
    },
    "from and value": {
        "chosen": [{"from": "human", "value": ASK}, {"from": "gpt", "value": YES}],
        "rejected": [{"from": "human", "value": ASK}, {"from": "gpt", "value": NO}],
    },
}


def parse(*values: object, held_out_share: float = 0.0):
    return parse_preferences(rows_of(values), held_out_share=held_out_share)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pair(name):
    (pair,) = parse(FORMATS[name]).pairs
    assert pair.prompt == (Turn(role=Role.USER, content=ASK),)
    assert pair.chosen == (Turn(role=Role.ASSISTANT, content=YES),)
    assert pair.rejected == (Turn(role=Role.ASSISTANT, content=NO),)


def test_two_texts_are_split_where_they_part_at_a_word():
    (pair,) = parse({"chosen": "The sky is blue.", "rejected": "The sky is black."}).pairs
    assert pair.prompt[0].content == "The sky is"
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("blue.", "black.")


def test_a_long_conversation_keeps_its_turns_and_its_system_message():
    start = [{"role": "system", "content": "Be kind."}, user("Hi"), says("Hello"), user(ASK)]
    (pair,) = parse({"chosen": [*start, says(YES)], "rejected": [*start, says(NO)]}).pairs
    roles = [turn.role for turn in pair.prompt]
    assert roles == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]


def test_answers_may_go_on_for_several_turns():
    chosen = [user(ASK), says(YES), user("Sure?"), says("Yes.")]
    (pair,) = parse({"chosen": chosen, "rejected": [user(ASK), says(NO)]}).pairs
    assert [turn.content for turn in pair.chosen] == [YES, "Sure?", "Yes."]


REFUSED = {
    RejectReason.NOT_AN_OBJECT: [1, 2],
    RejectReason.MISSING_FIELD: {"prompt": ASK, "chosen": YES},
    RejectReason.WRONG_TYPE: {"prompt": ASK, "chosen": 7, "rejected": NO},
    RejectReason.BROKEN_TEXT: {"prompt": ASK, "chosen": "\ud800", "rejected": NO},
    RejectReason.UNKNOWN_ROLE: {
        "chosen": [{"role": "narrator", "content": "x"}],
        "rejected": [says(NO)],
    },
    RejectReason.WRONG_TURN_ORDER: {
        "prompt": [user(ASK), says("Hm.")],
        "chosen": [says(YES)],
        "rejected": [says(NO)],
    },
    RejectReason.EMPTY_PROMPT: {"prompt": "  ", "chosen": YES, "rejected": NO},
    RejectReason.EMPTY_ANSWER: {"prompt": ASK, "chosen": YES, "rejected": " \n"},
    RejectReason.NO_SHARED_PROMPT: {
        "chosen": [user("A?"), says("B.")],
        "rejected": [user("C?"), says("D.")],
    },
    RejectReason.SAME_ANSWERS: {"prompt": ASK, "chosen": YES, "rejected": f" {YES} "},
    RejectReason.SCORES_DISAGREE: {
        "prompt": ASK,
        "chosen": YES,
        "rejected": NO,
        "score_chosen": 3,
        "score_rejected": 4,
    },
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_bad_row_is_refused_with_its_reason(reason):
    found = parse(REFUSED[reason])
    assert [row.reason for row in found.rejected] == [reason]
    assert found.rejected[0].detail.endswith(".")
    assert found.rejected[0].preview
    found.rejected[0].preview.encode()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {
                "prompt": "Who wrote Faust?",
                "chosen": [user(ASK), says(YES)],
                "rejected": [user(ASK), says(NO)],
            },
            RejectReason.NO_SHARED_PROMPT,
        ),
        (
            {
                "prompt": [user(ASK), says("Pardon?"), user(" ")],
                "chosen": [says(YES)],
                "rejected": [says(NO)],
            },
            RejectReason.EMPTY_PROMPT,
        ),
        (
            {
                "prompt": [user(ASK), {"role": "tool", "content": "42"}],
                "chosen": [says(YES)],
                "rejected": [says(NO)],
            },
            RejectReason.UNKNOWN_ROLE,
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "image"}]}],
                "chosen": [says(YES)],
                "rejected": [says(NO)],
            },
            RejectReason.WRONG_TYPE,
        ),
    ],
    ids=["another prompt than its conversations", "an empty last turn", "a tool turn", "an image"],
)
def test_a_prompt_that_is_none_is_refused(row, reason):
    assert [refused.reason for refused in parse(row).rejected] == [reason]


def test_every_reason_is_tested():
    elsewhere = {RejectReason.NOT_JSON, RejectReason.DUPLICATE, RejectReason.CONTRADICTION}
    assert set(RejectReason) == set(REFUSED) | elsewhere


def test_a_repeated_pair_and_its_opposite_are_refused():
    row = FORMATS["trl explicit text"]
    spaced = {**row, "chosen": f"  {YES}"}
    opposite = {"prompt": ASK, "chosen": NO, "rejected": YES}
    found = parse(row, spaced, opposite)
    assert [pair.row for pair in found.pairs] == [0]
    assert [(r.row, r.reason) for r in found.rejected] == [
        (1, RejectReason.DUPLICATE),
        (2, RejectReason.CONTRADICTION),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"chosen": "a", "rejected": "a"},
        {"chosen": [], "rejected": []},
        {"prompt": [], "chosen": [says(YES)], "rejected": [says(NO)]},
        {"prompt": {}, "chosen": YES, "rejected": NO},
        {"prompt": ASK, "output_A": [], "output_B": [], "label": []},
        {"chosen": "\n\nHuman: x", "rejected": "\n\nHuman: x"},
        {"chosen": [None], "rejected": [3]},
        None,
    ],
)
def test_odd_rows_are_refused_and_not_raised(value):
    assert len(parse(value).rejected) == 1


def test_a_named_split_wins_over_the_share():
    row = FORMATS["trl explicit text"]
    other = {**row, "prompt": "Another?", "split": "train"}
    found = parse({**row, "split": "test"}, other, held_out_share=0.99)
    assert [pair.split for pair in found.pairs] == [Split.EVAL, Split.TRAIN]


def test_a_share_of_prompts_is_held_out_by_their_text():
    rows = [{"prompt": f"Question {i}?", "chosen": YES, "rejected": NO} for i in range(2_000)]
    found = parse(*rows, held_out_share=0.2)
    # 2,000 draws at 0.2: standard error 17.9
    assert abs(len(found.held_out) - 400) < 4 * 18
    again = parse(*reversed(rows), held_out_share=0.2)
    assert {p.prompt for p in again.held_out} == {p.prompt for p in found.held_out}


def test_a_share_of_one_is_refused():
    with pytest.raises(Invalid):
        parse(held_out_share=1.0)


def test_written_pairs_are_read_back_the_same(tmp_path):
    pairs = parse(*FORMATS.values(), FORMATS["anthropic hh"] | {"split": "eval"}).pairs
    write_preferences(pairs, tmp_path / "pairs.jsonl")
    again = read_preferences(tmp_path / "pairs.jsonl").pairs
    assert content_hash(again) == content_hash(pairs)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "cat"]),
            "content": st.sampled_from(["a", "b", "", "\ud800"]) | JSON_VALUES,
        }
    )
    | JSON_VALUES,
    max_size=4,
)
FIELD = st.sampled_from(["a", "b", "a b", "a c", "\n\nHuman: x\n\nAssistant: y"]) | MESSAGES
ROWS = st.lists(
    JSON_VALUES
    | st.dictionaries(
        st.sampled_from(
            [
                "prompt",
                "chosen",
                "rejected",
                "split",
                "output_A",
                "output_B",
                "label",
                "score_chosen",
            ]
        ),
        FIELD | JSON_VALUES,
    )
    | st.fixed_dictionaries({"prompt": FIELD, "chosen": FIELD, "rejected": FIELD}),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_no_row_disappears(values):
    found = parse(*values, held_out_share=0.3)
    numbers = [pair.row for pair in found.pairs] + [row.row for row in found.rejected]
    assert sorted(numbers) == list(range(len(values)))
    assert found.n_rows == len(values)
    assert len(found.train) + len(found.held_out) == len(found.pairs)
    content_hash(found.pairs)
    json.dumps([row.preview for row in found.rejected], ensure_ascii=False).encode()


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_kept_pairs_are_what_training_can_rely_on(values):
    for pair in parse(*values).pairs:
        _check(pair)


def _check(pair: PreferencePair) -> None:
    assert pair.prompt[-1].role is Role.USER
    for answer in (pair.chosen, pair.rejected):
        assert answer[0].role is answer[-1].role is Role.ASSISTANT
        assert all(turn.content.strip() for turn in answer)
    assert pair.chosen != pair.rejected
