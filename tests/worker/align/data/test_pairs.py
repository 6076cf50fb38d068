"""Tokens of pairs: what is learned, what is cut, and how batches are padded."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.domain.alignment import Lengths
from core.domain.preference import Conversation, PreferencePair, Role, Split, Turn
from core.errors import Invalid
from tests.support.tiny_tokenizer import tiny_tokenizer
from worker.align.data.pairs import (
    PaddingSide,
    collate,
    collate_pairs,
    count_truncation,
    encode_conversations,
    encode_pairs,
    sides,
)
from worker.align.data.templates import has_template, render

ROOMY = Lengths(max_length=200, max_prompt_length=100)


def turns(*contents: str, first: Role = Role.USER) -> tuple[Turn, ...]:
    roles = [Role.USER, Role.ASSISTANT]
    start = roles.index(first)
    return tuple(Turn(role=roles[(start + i) % 2], content=c) for i, c in enumerate(contents))


def pair(prompt: tuple[Turn, ...], chosen: str = "Yes", rejected: str = "No") -> PreferencePair:
    return PreferencePair(
        prompt=prompt,
        chosen=turns(chosen, first=Role.ASSISTANT),
        rejected=turns(rejected, first=Role.ASSISTANT),
        split=Split.TRAIN,
        row=0,
    )


def learned(sequence, tokenizer) -> str:
    text: str = tokenizer.decode(sequence.ids[sequence.is_response])
    return text


def test_an_answer_is_learned_with_its_end_of_turn_and_nothing_else():
    tokenizer = tiny_tokenizer()
    (found,) = encode_pairs([pair(turns("Hi"))], tokenizer=tokenizer, lengths=ROOMY)
    assert learned(found.chosen, tokenizer) == "Yes<eos>"
    assert learned(found.rejected, tokenizer) == "No<eos>"
    assert tokenizer.decode(found.chosen.ids) == "<bos>[user]Hi<eos>\n[assistant]Yes<eos>"


def test_answers_inside_the_prompt_are_not_learned():
    tokenizer = tiny_tokenizer()
    (found,) = encode_pairs(
        [pair(turns("Hi", "Hello", "And?"))], tokenizer=tokenizer, lengths=ROOMY
    )
    assert learned(found.chosen, tokenizer) == "Yes<eos>"
    assert "[assistant]Hello<eos>\n[user]And?" in tokenizer.decode(found.chosen.ids)


def test_every_turn_of_a_long_answer_is_learned_but_not_the_user_s():
    tokenizer = tiny_tokenizer()
    talk = Conversation(turns=turns("a", "b", "c", "d"), split=Split.TRAIN, row=0)
    (found,) = encode_conversations([talk], tokenizer=tokenizer, max_length=200)
    assert learned(found, tokenizer) == "b<eos>d<eos>"


def test_a_model_without_a_template_gets_the_stated_fallback():
    tokenizer = tiny_tokenizer(chat_template=None)
    assert not has_template(tokenizer)
    pieces = render(turns("Hi", "Yes"), tokenizer)
    assert [(p.text, p.is_answer) for p in pieces] == [
        ("<bos>\n<|user|>\nHi\n<|assistant|>\n", False),
        ("Yes<eos>", True),
    ]


def test_a_system_turn_joins_the_user_s_where_the_template_refuses_it():
    template = (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    system = Turn(role=Role.SYSTEM, content="Be brief.")
    lead, answer = render((system, *turns("Hi", "Yes")), tiny_tokenizer(template))
    assert (lead.text, answer.text) == ("[user]Be brief.\n\nHi[assistant]", "Yes")


def test_a_template_that_rewrites_its_beginning_is_refused():
    template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(Invalid, match="chat template"):
        render(turns("Hi", "Yes"), tiny_tokenizer(template))


def test_a_long_prompt_keeps_its_bos_and_its_end():
    tokenizer = tiny_tokenizer()
    (found,) = encode_pairs(
        [pair(turns("x" * 50 + "Well?"))],
        tokenizer=tokenizer,
        lengths=Lengths(max_length=40, max_prompt_length=24),
    )
    assert tokenizer.decode(found.chosen.ids) == "<bos>Well?<eos>\n[assistant]Yes<eos>".replace(
        "<bos>", "<bos>" + "x" * 5
    )
    assert found.chosen.prompt_cut == found.rejected.prompt_cut > 0
    assert learned(found.chosen, tokenizer) == "Yes<eos>"


def test_a_long_answer_keeps_its_beginning_and_is_counted():
    tokenizer = tiny_tokenizer()
    pairs = encode_pairs(
        [pair(turns("Hi"), chosen="y" * 300)],
        tokenizer=tokenizer,
        lengths=Lengths(max_length=60, max_prompt_length=40),
    )
    (found,) = pairs
    assert len(found.chosen.ids) == 60
    assert set(learned(found.chosen, tokenizer)) == {"y"}
    cut = count_truncation(sides(pairs))
    assert (cut.n_sequences, cut.n_prompts_cut, cut.n_answers_cut) == (2, 0, 1)
    assert cut.n_tokens_cut == found.chosen.answer_cut


def test_lengths_without_room_for_an_answer_are_refused():
    with pytest.raises(ValidationError, match="no room"):
        Lengths(max_length=32, max_prompt_length=32)


TEXT = st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip()))


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3), TEXT, TEXT, st.integers(24, 80))
def test_no_pair_is_dropped_and_none_is_empty(prompts, chosen, rejected, room):
    tokenizer = tiny_tokenizer()
    rows = [pair(turns(prompt), chosen, rejected) for prompt in prompts]
    lengths = Lengths(max_length=room, max_prompt_length=room // 2)
    found = encode_pairs(rows, tokenizer=tokenizer, lengths=lengths)
    assert len(found) == len(rows)
    for sequence in sides(found):
        assert 0 < len(sequence.ids) <= room
        assert sequence.n_response > 0


def test_padding_on_either_side_gives_the_same_tokens():
    tokenizer = tiny_tokenizer()
    pairs = encode_pairs(
        [pair(turns("Hi")), pair(turns("Longer?"), chosen="Indeed")],
        tokenizer=tokenizer,
        lengths=ROOMY,
    )
    left = collate_pairs(pairs, pad_id=0, side=PaddingSide.LEFT).tokens
    right = collate_pairs(pairs, pad_id=0, side=PaddingSide.RIGHT).tokens
    for row, sequence in enumerate(sides(pairs)):
        for batch in (left, right):
            real = batch.attention_mask[row].bool()
            assert batch.input_ids[row][real].tolist() == sequence.ids.tolist()
            assert batch.position_ids[row][real].tolist() == list(range(len(sequence.ids)))
            assert batch.response_mask[row][real].tolist() == sequence.is_response.tolist()
            assert int(batch.targets.mask[row].sum()) == sequence.n_response
        assert left.targets.ids[row].sum() == right.targets.ids[row].sum()
    assert left.n_tokens == right.n_tokens


def test_labels_and_masks_of_a_batch_are_these():
    tokenizer = tiny_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    pairs = encode_pairs([pair(turns("a"), "bc", "d")], tokenizer=tokenizer, lengths=ROOMY)
    batch = collate(sides(pairs), pad_id=0, side=PaddingSide.LEFT)
    a, b, c, d = (tokenizer.convert_tokens_to_ids(x) for x in "abcd")
    assert batch.input_ids.tolist() == [[a, b, c], [0, a, d]]
    assert batch.labels.tolist() == [[-100, b, c], [-100, -100, d]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert torch.equal(batch.targets.mask, torch.tensor([[1, 1, 0], [0, 1, 0]]).bool())
