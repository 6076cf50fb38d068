"""Texts as contexts of equal length, each starting with BOS."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedTokenizerBase

from core.errors import Invalid
from worker.sae_training.activation_cache import Contexts

_TEXTS_AT_ONCE = 256


def make_contexts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    context_size: int,
    max_tokens: int | None = None,
) -> Contexts:
    """BOS and up to ``context_size - 1`` tokens of one text each; the last of a text is padded.

    Ends after the text with which ``max_tokens`` scored tokens are reached.

    Raises:
        Invalid: the tokenizer has neither BOS nor EOS token.
    """
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if bos is None:
        raise Invalid("The tokenizer has neither a BOS nor an EOS token to start contexts with.")
    rows: list[list[int]] = []
    n_tokens = 0
    for tokens in _tokens(tokenizer, texts):
        width = context_size - 1
        rows.extend([bos, *tokens[at : at + width]] for at in range(0, len(tokens), width))
        n_tokens += len(tokens)
        if max_tokens is not None and n_tokens >= max_tokens:
            break
    return _pad(tokenizer, rows, context_size, pad=bos)


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterable[list[int]]:
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == _TEXTS_AT_ONCE:
            yield from tokenizer(waiting, add_special_tokens=False)["input_ids"]
            waiting = []
    if waiting:
        yield from tokenizer(waiting, add_special_tokens=False)["input_ids"]


def _pad(
    tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], context_size: int, *, pad: int
) -> Contexts:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    input_ids = torch.full((len(rows), context_size), pad, dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
    real = torch.arange(context_size) < lengths[:, None]
    special = torch.tensor(sorted(_special_ids(tokenizer)), dtype=torch.long)
    return Contexts(
        input_ids=input_ids,
        attention_mask=real.long(),
        scored=real & ~torch.isin(input_ids, special),
    )


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)
