"""Tokens of preference pairs and conversations, and padded batches of them.

Truncation: a prompt longer than ``max_prompt_length`` keeps its end (and its BOS); a prompt with
its answer longer than ``max_length`` keeps its beginning, so a cut answer has no end of turn. Both
answers of a pair see the same prompt. Nothing is dropped, and what was cut is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32
from pydantic import JsonValue
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from core.domain.alignment import Lengths
from core.domain.job_lines import sentence
from core.domain.preference import Conversation, PreferencePair, Role, Turn
from worker.align.data.templates import Piece, render
from worker.align.logps import Targets, next_token_targets


class PaddingSide(StrEnum):
    """Where padding goes; never changes a result."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """A prompt with its answer, or a whole conversation.

    Attributes:
        is_response: True on tokens that are learned.
        prompt_cut: tokens that its prompt lost.
        answer_cut: tokens that were lost at the end.
    """

    ids: Int32[np.ndarray, " pos"]
    is_response: Bool[np.ndarray, " pos"]
    prompt_cut: int = 0
    answer_cut: int = 0

    @property
    def n_response(self) -> int:
        """Response tokens that some row predicts."""
        return int(self.is_response[1:].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """Both sides of a preference pair; row is that of its source."""

    chosen: TokenSequence
    rejected: TokenSequence
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """How many prompts and answers were cut, of how many."""

    n_sequences: int
    n_prompts_cut: int
    n_answers_cut: int
    n_tokens_cut: int

    def sentence(self) -> str:
        """What was cut, in a sentence for the log.

        >>> Truncation(n_sequences=8, n_prompts_cut=1, n_answers_cut=2, n_tokens_cut=90).sentence()
        '1 of 8 prompts and 2 of 8 answers were cut, 90 tokens in all.'
        """
        return sentence("align_cut", self.numbers())

    def numbers(self) -> dict[str, JsonValue]:
        """The values of that sentence."""
        return {
            "n": self.n_sequences,
            "n_prompts": self.n_prompts_cut,
            "n_answers": self.n_answers_cut,
            "n_tokens": self.n_tokens_cut,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Padded sequences as a model reads them.

    Attributes:
        attention_mask: 1 on tokens, 0 on padding.
        position_ids: 0 on the first token of each sequence, wherever padding stands.
        labels: token ids on response tokens, -100 elsewhere.
        response_mask: True on response tokens.
    """

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    position_ids: Int[Tensor, "batch pos"]
    labels: Int[Tensor, "batch pos"]
    response_mask: Bool[Tensor, "batch pos"]

    @property
    def targets(self) -> Targets:
        """What each row predicts."""
        return next_token_targets(self.labels, self.response_mask)

    @property
    def n_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device) -> "TokenBatch":
        """The batch on another device."""
        return TokenBatch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            position_ids=self.position_ids.to(device),
            labels=self.labels.to(device),
            response_mask=self.response_mask.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch:
    """Pairs as one batch: the chosen sequences first, then the rejected ones, in pair order."""

    tokens: TokenBatch
    n_pairs: int


def encode_pairs(
    pairs: Sequence[PreferencePair], *, tokenizer: PreTrainedTokenizerBase, lengths: Lengths
) -> tuple[TokenPair, ...]:
    """Tokens of every pair, in order."""
    return tuple(
        TokenPair(
            chosen=_encode_answer(pair, pair.chosen, tokenizer, lengths),
            rejected=_encode_answer(pair, pair.rejected, tokenizer, lengths),
            row=pair.row,
        )
        for pair in pairs
    )


def encode_conversations(
    conversations: Sequence[Conversation], *, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[TokenSequence, ...]:
    """Tokens of every conversation; all assistant turns are learned, the end is cut."""
    return tuple(
        _cut_end(*_tokens(render(c.turns, tokenizer), tokenizer), max_length=max_length)
        for c in conversations
    )


def count_truncation(sequences: Sequence[TokenSequence]) -> Truncation:
    """What was cut of given sequences."""
    return Truncation(
        n_sequences=len(sequences),
        n_prompts_cut=sum(s.prompt_cut > 0 for s in sequences),
        n_answers_cut=sum(s.answer_cut > 0 for s in sequences),
        n_tokens_cut=sum(s.prompt_cut + s.answer_cut for s in sequences),
    )


def sides(pairs: Sequence[TokenPair]) -> list[TokenSequence]:
    """The chosen sequences, then the rejected ones."""
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def collate_pairs(
    pairs: Sequence[TokenPair], *, pad_id: int, side: PaddingSide = PaddingSide.RIGHT
) -> PairBatch:
    """Pairs padded to their longest sequence."""
    return PairBatch(tokens=collate(sides(pairs), pad_id=pad_id, side=side), n_pairs=len(pairs))


def collate(
    sequences: Sequence[TokenSequence], *, pad_id: int, side: PaddingSide = PaddingSide.RIGHT
) -> TokenBatch:
    """Sequences padded to the longest."""
    width = max(len(sequence.ids) for sequence in sequences)
    shape = (len(sequences), width)
    ids = np.full(shape, pad_id, dtype=np.int64)
    attention = np.zeros(shape, dtype=np.int64)
    response = np.zeros(shape, dtype=bool)
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        place = slice(0, length) if side is PaddingSide.RIGHT else slice(width - length, width)
        ids[row, place] = sequence.ids
        attention[row, place] = 1
        response[row, place] = sequence.is_response
    mask = torch.from_numpy(attention)
    response_mask = torch.from_numpy(response)
    input_ids = torch.from_numpy(ids)
    return TokenBatch(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        labels=input_ids.masked_fill(~response_mask, -100),
        response_mask=response_mask,
    )


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that padding is written with; it is masked, so any id does."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token_id, int):
            return token_id
    return 0


def chunks(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Runs of at most ``size`` indices, the last one shorter.

    >>> [list(run) for run in chunks(range(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _encode_answer(
    pair: PreferencePair,
    answer: tuple[Turn, ...],
    tokenizer: PreTrainedTokenizerBase,
    lengths: Lengths,
) -> TokenSequence:
    pieces = render((*pair.prompt, *answer), tokenizer)
    n_turns = sum(turn.role is Role.ASSISTANT for turn in pair.prompt)
    n_lead = 2 * n_turns + 1  # each answer inside the prompt has a lead and an answer piece
    context = [Piece(text=piece.text, is_answer=False) for piece in pieces[:n_lead]]
    prompt, _ = _tokens(context, tokenizer)
    ids, is_response = _tokens(pieces[n_lead:], tokenizer)
    cut = max(0, len(prompt) - lengths.max_prompt_length)
    kept = _keep_end(prompt, lengths.max_prompt_length, bos_id=tokenizer.bos_token_id)
    return _cut_end(
        [*kept, *ids],
        [*([False] * len(kept)), *is_response],
        max_length=lengths.max_length,
        prompt_cut=cut,
    )


def _tokens(
    pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """Ids of the pieces, each tokenised by itself, so that no token crosses a border."""
    ids: list[int] = []
    is_response: list[bool] = []
    for piece in pieces:
        part = tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        ids += part
        is_response += [piece.is_answer] * len(part)
    return ids, is_response


def _keep_end(prompt: list[int], length: int, *, bos_id: object) -> list[int]:
    if len(prompt) <= length:
        return prompt
    if prompt[0] == bos_id:
        return [prompt[0], *prompt[len(prompt) - length + 1 :]]
    return prompt[-length:]


def _cut_end(
    ids: list[int], is_response: list[bool], *, max_length: int, prompt_cut: int = 0
) -> TokenSequence:
    return TokenSequence(
        ids=np.asarray(ids[:max_length], dtype=np.int32),
        is_response=np.asarray(is_response[:max_length], dtype=bool),
        prompt_cut=prompt_cut,
        answer_cut=max(0, len(ids) - max_length),
    )
