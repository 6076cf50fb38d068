"""Texts as token ids: which token starts a context, which count, and how contexts are cut."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from core.errors import Invalid

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenization:
    """How a model's texts become contexts.

    Attributes:
        bos_id: id in front of every context; also fills up short ones, where it is masked.
        bos_rule: one sentence that says which token that is and why.
        special_ids: ids that never count: BOS, EOS, padding and every other special token.
    """

    bos_id: int
    bos_rule: str
    special_ids: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Tokens of equal length, ready for the model.

    Attributes:
        scored: which positions count; not BOS, padding or other special tokens.
    """

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    scored: Bool[Tensor, "batch pos"]

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def __getitem__(self, rows: slice) -> "Contexts":
        return Contexts(
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            scored=self.scored[rows],
        )


def tokenization(tokenizer: PreTrainedTokenizerBase) -> Tokenization:
    """The rules that follow from a tokenizer.

    Raises:
        Invalid: the tokenizer has neither BOS nor EOS token.
    """
    bos_id, eos_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special_ids = frozenset(added | set(tokenizer.all_special_ids))
    if bos_id is not None:
        rule = f"Each context starts with the BOS token {tokenizer.bos_token}."
        return Tokenization(bos_id=bos_id, bos_rule=rule, special_ids=special_ids)
    if eos_id is None:
        raise Invalid("The tokenizer has neither a BOS nor an EOS token to start contexts with.")
    rule = (
        "The tokenizer has no BOS token; each context starts with its EOS token "
        f"{tokenizer.eos_token} instead."
    )
    return Tokenization(bos_id=eos_id, bos_rule=rule, special_ids=special_ids)


def document_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> Iterator[list[int]]:
    """Token ids of each text, without BOS or other special tokens put in front or behind."""
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == _TEXTS_AT_ONCE:
            yield from _encode(tokenizer, waiting)
            waiting = []
    if waiting:
        yield from _encode(tokenizer, waiting)


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> int:
    """How many tokens some texts have, BOS not counted."""
    return sum(len(tokens) for tokens in document_tokens(tokenizer, texts))


def context_starts(n_tokens: int, context_size: int) -> range:
    """Offsets in a document at which its contexts begin; each holds ``context_size - 1`` tokens.

    >>> list(context_starts(300, 128))
    [0, 127, 254]
    """
    return range(0, n_tokens, context_size - 1)


def cut_contexts(tokens: Sequence[int], *, bos_id: int, context_size: int) -> list[list[int]]:
    """BOS and up to ``context_size - 1`` tokens of one document each; only the last is shorter.

    >>> cut_contexts([5, 6, 7, 8, 9], bos_id=1, context_size=3)
    [[1, 5, 6], [1, 7, 8], [1, 9]]
    """
    width = context_size - 1
    return [
        [bos_id, *tokens[start : start + width]]
        for start in context_starts(len(tokens), context_size)
    ]


def pad_contexts(
    rows: Sequence[Sequence[int]], rules: Tokenization, *, context_size: int
) -> Contexts:
    """Contexts as one batch, padded on the right; padding is masked and never scored."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    input_ids = torch.full((len(rows), context_size), rules.bos_id, dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    real = torch.arange(context_size) < lengths[:, None]
    return Contexts(
        input_ids=input_ids,
        attention_mask=real.long(),
        scored=real & ~is_special(input_ids, rules.special_ids),
    )


def make_contexts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    context_size: int,
    max_tokens: int | None = None,
) -> Contexts:
    """All contexts of some texts as one batch; a text without tokens makes none.

    Ends after the text with which ``max_tokens`` tokens are reached.

    Raises:
        Invalid: the tokenizer has neither BOS nor EOS token.
    """
    rules = tokenization(tokenizer)
    rows: list[list[int]] = []
    n_tokens = 0
    for tokens in document_tokens(tokenizer, texts):
        rows.extend(cut_contexts(tokens, bos_id=rules.bos_id, context_size=context_size))
        n_tokens += len(tokens)
        if max_tokens is not None and n_tokens >= max_tokens:
            break
    return pad_contexts(rows, rules, context_size=context_size)


def is_special(
    input_ids: Int[Tensor, "batch pos"], special_ids: frozenset[int]
) -> Bool[Tensor, "batch pos"]:
    """Which positions hold a special token."""
    special = torch.tensor(sorted(special_ids), dtype=input_ids.dtype, device=input_ids.device)
    return torch.isin(input_ids, special)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return encoded
