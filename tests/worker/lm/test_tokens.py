"""Tokens: exact bytes, contexts of one document each, and what counts."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from core.errors import Invalid
from tests.support.gemma_tokenizer import gemma_tokenizer
from tests.support.tiny_models import as_loaded, tiny_llama
from tests.support.tiny_tokenizer import tiny_tokenizer
from worker.lm.gguf import demo_model_dir
from worker.lm.load import load_tokenizer
from worker.lm.source import Origin
from worker.lm.tokens import (
    Tokenization,
    count_tokens,
    cut_contexts,
    document_tokens,
    make_contexts,
    pad_contexts,
    tokenization,
)
from worker.lm.vocabulary import TokenCoding, token_bytes, token_coding, vocabulary

TEXTS = (
    "The theatre, in the end.",
    "emoji 😀 and a flag 🏳️‍🌈 and é as one and as e\u0301",
    "日本語と中文和한국어",
    "مرحبا بالعالم and עברית",
    "tabs\tand\r\nlines\n\n\nand   runs  of spaces ",
    " a space in front",
    "\x01\x07\x1b[0m\x7f controls",
    "<b>&amp;</b> \\u0041 <0x41> Ġ Ċ",
    "\u200f\ufeff\u00a0\u2028",
    "",
)


@pytest.fixture(scope="module")
def smollm2(demo_tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(Origin(name=str(demo_tokenizer_dir), commit=None))


@pytest.fixture(scope="module")
def demo_tokenizer_dir() -> Path:
    return demo_model_dir(cache_dir=Path("~/.cache/sparsight").expanduser())


def _joined(tokenizer: PreTrainedTokenizerBase, text: str) -> bytes:
    vocabulary = token_bytes(tokenizer)
    (ids,) = document_tokens(tokenizer, [text])
    return b"".join(vocabulary[index] for index in ids)


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_the_demo_models_tokens_join_to_the_text(smollm2, text):
    assert _joined(smollm2, text) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [tiny_tokenizer, gemma_tokenizer])
def test_bytes_of_made_tokenizers_join_to_the_text(make, text):
    if make is gemma_tokenizer:
        text = text.replace("<0x41>", "")  # its vocabulary cannot tell this text from the byte
    assert _joined(make(), text) == text.encode()


BYTE_LEVEL, GEMMA = tiny_tokenizer(), gemma_tokenizer()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_join_to_any_text(text):
    assert _joined(BYTE_LEVEL, text) == text.encode()
    ordinary = text.replace("▁", " ").replace("<", "")
    assert _joined(GEMMA, ordinary) == ordinary.encode()


def test_gemma_codings_are_read_as_bytes_spaces_and_literals():
    words = token_bytes(GEMMA)
    ids = GEMMA.get_vocab()
    assert token_coding(GEMMA) is TokenCoding.SENTENCEPIECE
    assert words[ids["<0xE3>"]] == b"\xe3"
    assert words[ids["▁the"]] == b" the"
    assert words[ids["▁▁"]] == b"  "
    assert words[ids["<start_of_turn>"]] == b"<start_of_turn>"


def test_a_space_in_front_by_the_tokenizer_is_kept():
    inner = Tokenizer(models.BPE(vocab={"▁": 0, "a": 1, "▁a": 2}, merges=[("▁", "a")]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    assert token_bytes(tokenizer) == (b" ", b"a", b" a")


def test_wordpieces_lose_their_marks():
    inner = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "play": 1, "##ing": 2}))
    inner.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    assert token_bytes(tokenizer)[1:] == (b" play", b"ing")


def test_a_vocabulary_has_an_entry_for_every_row_of_the_embedding():
    loaded = as_loaded(tiny_llama(vocab_size=300))
    words = vocabulary(loaded, "tiny")
    assert len(words.tokens) == 300
    assert words.tokens[299] == b""
    assert words.special_ids == {0, 1, 2}


def test_contexts_hold_bos_and_every_token_of_one_document_each():
    texts = ["abcdefgh", "", "xyz", "0123456"]
    contexts = make_contexts(BYTE_LEVEL, texts, context_size=4)
    words = token_bytes(BYTE_LEVEL)
    rows = [
        b"".join(words[index] for index in ids[1 : int(mask.sum())])
        for ids, mask in zip(contexts.input_ids, contexts.attention_mask, strict=True)
    ]
    assert rows == [b"abc", b"def", b"gh", b"xyz", b"012", b"345", b"6"]
    assert contexts.input_ids[:, 0].tolist() == [1] * 7
    assert int(contexts.scored.sum()) == count_tokens(BYTE_LEVEL, texts) == 18
    assert not contexts.scored[:, 0].any()


def test_special_tokens_inside_a_text_do_not_count():
    text = "a<start_of_turn>b<eos>"
    contexts = make_contexts(GEMMA, [text], context_size=8)
    assert contexts.scored[0].tolist() == [False, True, False, True, False] + [False] * 3
    assert contexts.attention_mask[0].tolist() == [1] * 5 + [0] * 3


def test_reading_ends_after_the_text_that_reaches_the_limit():
    contexts = make_contexts(BYTE_LEVEL, ["abc", "def", "ghi"], context_size=8, max_tokens=4)
    assert int(contexts.scored.sum()) == 6


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 90), max_size=40), st.integers(2, 9))
def test_cutting_loses_and_repeats_nothing(tokens, context_size):
    rows = cut_contexts(tokens, bos_id=1, context_size=context_size)
    assert [token for row in rows for token in row[1:]] == tokens
    assert all(len(row) == context_size for row in rows[:-1])
    padded = pad_contexts(
        rows,
        Tokenization(bos_id=1, bos_rule="", special_ids=frozenset({1})),
        context_size=context_size,
    )
    assert padded.input_ids.shape == (len(rows), context_size)
    assert int(padded.scored.sum()) == len(tokens)


def test_many_texts_come_back_in_order():
    texts = [str(number) for number in range(1_000)]
    found = [_text(ids) for ids in document_tokens(BYTE_LEVEL, texts)]
    assert found == texts


def _text(ids: list[int]) -> str:
    words = token_bytes(BYTE_LEVEL)
    return b"".join(words[index] for index in ids).decode()


def test_the_rule_names_the_token_that_starts_contexts(smollm2):
    assert tokenization(GEMMA).bos_rule == "Each context starts with the BOS token <bos>."
    assert tokenization(GEMMA).bos_id == 2
    assert "<|im_start|>" in tokenization(smollm2).bos_rule
    without = tiny_tokenizer()
    without.bos_token = None
    rules = tokenization(without)
    assert rules.bos_id == 2
    assert "no BOS token; each context starts with its EOS token <eos>" in rules.bos_rule
    without.eos_token = None
    with pytest.raises(Invalid, match="neither a BOS nor an EOS"):
        tokenization(without)


def test_all_special_tokens_are_known_of_the_demo_model(smollm2):
    assert tokenization(smollm2).special_ids == frozenset(range(17))


def test_scored_positions_follow_the_tensors_device_and_type():
    contexts = make_contexts(BYTE_LEVEL, ["abc"], context_size=8)
    assert contexts.input_ids.dtype == contexts.attention_mask.dtype == torch.long
    assert len(contexts[:0]) == 0
