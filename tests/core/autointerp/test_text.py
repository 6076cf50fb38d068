import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.text import one_line, unused_delimiters, visible, whole_characters

SPECIALS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|fim_prefix|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<start>",
    "<end>",
    "</think>",
    "<｜begin▁of▁sentence｜>",
    "<unused12>",
    "<tool_call>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "[EXPLANATION]: ",
]


@pytest.mark.parametrize("special", SPECIALS)
def test_a_control_token_of_a_chat_model_is_broken_up(special):
    assert special not in visible(f"x{special}y")
    assert special not in one_line(f"x {special} y")


@pytest.mark.parametrize(
    "harmless", ["x < y", "<p>", "<div class='a'>", "a[0]", "List<String>", "<3"]
)
def test_ordinary_angle_brackets_stay(harmless):
    assert visible(harmless) == harmless


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_nothing_invisible_is_left(text):
    shown = visible(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Zl", "Zp"} for c in shown)
    assert len(shown.splitlines()) <= 1


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_an_explanation_is_one_short_line(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= 300
    assert line == line.strip()


def test_a_long_explanation_is_cut_at_a_word():
    line = one_line("word " * 100)
    assert line.endswith("word…")
    assert len(line) <= 300


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=12), st.lists(st.integers(1, 3), max_size=12))
def test_no_byte_is_lost_when_pieces_are_joined(data, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    groups = whole_characters(pieces)
    assert [i for group in groups for i in group] == list(range(len(pieces)))


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_whole_text_split_into_bytes_comes_back_as_characters(text):
    pieces = [bytes([b]) for b in text.encode("utf-8", "replace")]
    groups = whole_characters(pieces)
    assert [b"".join(pieces[i] for i in g).decode() for g in groups] == list(
        text.encode("utf-8", "replace").decode()
    )


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="<>«»⟦⟧【】⦃⦄1:a"))
def test_delimiters_do_not_occur_in_the_text(text):
    opening, closing = unused_delimiters(text)
    assert opening not in text
    assert closing not in text
