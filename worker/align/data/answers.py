"""What a model's hook points hold on the answers of preference pairs.

The rows of an answer are the positions that predict its tokens, as the losses read them: the
feature at position t counts where token t + 1 is part of the response.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.domain.preference import PreferencePair, turns_key
from worker.align.data.pairs import TokenPair, collate_pairs, pad_id_of
from worker.lm.capture import capture
from worker.lm.load import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRows:
    """Rows of a batch of pairs: those of all chosen answers, then those of the rejected ones.

    Attributes:
        streams: of each hook point, the answers' rows one after another.
        sizes: rows of each answer; 0 where truncation has cut it off.
    """

    streams: Mapping[str, Float[Tensor, "row d_in"]]
    sizes: tuple[int, ...]

    @property
    def n_pairs(self) -> int:
        """Pairs of the batch."""
        return len(self.sizes) // 2

    @property
    def n_chosen(self) -> int:
        """Rows of the chosen answers, which come first."""
        return sum(self.sizes[: self.n_pairs])


def read_answers(
    loaded: LoadedModel, pairs: Sequence[TokenPair], hook_names: Sequence[str]
) -> AnswerRows:
    """The rows of some pairs' answers, in one forward pass."""
    tokens = collate_pairs(pairs, pad_id=pad_id_of(loaded.tokenizer)).tokens
    streams = capture(loaded, tokens.input_ids, tokens.attention_mask, hook_names)
    mask = tokens.targets.mask.to(loaded.device)
    return AnswerRows(
        streams={name: stream[mask] for name, stream in streams.items()},
        sizes=tuple(mask.sum(dim=1).tolist()),
    )


def owners(sizes: Sequence[int], device: torch.device) -> Int[Tensor, " row"]:
    """For each row, the number of its answer or context.

    >>> owners([2, 0, 1], torch.device("cpu")).tolist()
    [0, 0, 2]
    """
    counts = torch.tensor(sizes, dtype=torch.long, device=device)
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), counts)


def draw_pairs(
    pairs: Sequence[PreferencePair], n: int | None, *, seed: int
) -> tuple[PreferencePair, ...]:
    """``n`` pairs drawn uniformly, in source order; all of them for None.

    The pairs with the smallest hashes of seed and content are taken, so that adding pairs to a
    set changes a sample as little as it can.
    """
    if n is None or n >= len(pairs):
        return tuple(pairs)
    ranked = sorted(range(len(pairs)), key=lambda place: (_key(pairs[place], seed), place))
    return tuple(pairs[place] for place in sorted(ranked[:n]))


def _key(pair: PreferencePair, seed: int) -> str:
    text = "\n".join([str(seed), *map(turns_key, (pair.prompt, pair.chosen, pair.rejected))])
    return hashlib.sha256(text.encode()).hexdigest()
