"""Stored contexts of a harvest read again: the uniform sample by both models, the rest aligned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64, Shaped
from torch import Tensor

from core.domain.align_results import AlignedRows, StoredPart
from worker.align.data.pairs import chunks
from worker.drift.keeper import Arrays, Keeper, below, within
from worker.drift.places import PlaceSums
from worker.drift.rows import RowFiller
from worker.lm.capture import capture
from worker.lm.load import LoadedModel
from worker.lm.outliers import is_outlier
from worker.lm.tokens import Contexts, Tokenization, pad_contexts, tokenization
from worker.memory import memory_errors
from worker.sae.model import SparseAutoencoder

_CELLS = 1 << 25  # dense activations held at once
_KEPT = ("corpus", "kept", "random")  # parts of _Part with a state

ReadTokens = Callable[[Sequence[int]], Mapping[int, Int32[np.ndarray, " pos"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """What one SAE gave on the contexts of a harvest."""

    corpus: PlaceSums
    rows: AlignedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One SAE while contexts go by."""

    sae: SparseAutoencoder
    stored: StoredPart
    corpus: PlaceSums
    kept: RowFiller
    random: RowFiller


class ContextReader:
    """Reads the contexts of one harvest through several SAEs, each context once.

    The statistics of the corpus are taken over the harvest's uniform sample of contexts, at scored
    tokens; those kept for their activations would favour what the base model fires on. A harvest
    without a sample gives no statistics.
    """

    def __init__(
        self,
        *,
        base: LoadedModel,
        aligned: LoadedModel,
        parts: Sequence[tuple[SparseAutoencoder, StoredPart]],
        read_tokens: ReadTokens,
        batch: int,
    ) -> None:
        self._base, self._aligned = base, aligned
        self._read_tokens = read_tokens
        self._batch = batch
        self._rules = tokenization(base.tokenizer)
        self._parts = [
            _Part(
                sae=sae,
                stored=stored,
                corpus=PlaceSums(sae, by_item=False),
                kept=RowFiller(stored.contexts),
                random=RowFiller(stored.random),
            )
            for sae, stored in parts
        ]
        self._hooks = list(dict.fromkeys(sae.info.hook_name for sae, _ in parts))
        sampled = [stored.random_contexts for _, stored in parts]
        used = [np.unique(stored.contexts.context_index) for _, stored in parts]
        self._sampled = set(np.concatenate(sampled).tolist())
        self.numbers = np.unique(np.concatenate([*sampled, *used])).astype(np.int64)

    def read(
        self, after_batch: Callable[[int], None], *, keeper: Keeper, name: str
    ) -> list[Reread]:
        """Run every context that an earlier attempt has not.

        Args:
            after_batch: told how many are done; may raise to stop.
            keeper: of what was done.
            name: what it is kept under.
        """
        done = self._restore(keeper.load(name))
        at = 0
        for batch in _split(self.numbers, self._sampled, self._batch):
            at += len(batch)
            if at <= done:
                continue
            self._read(batch)
            if keeper.due:
                keeper.save(name, self._state(at))
            after_batch(at)
        return [
            Reread(
                corpus=part.corpus,
                rows=AlignedRows(
                    contexts=part.kept.rows(), random=part.random.rows(by_activation=True)
                ),
            )
            for part in self._parts
        ]

    def _state(self, done: int) -> dict[str, Shaped[np.ndarray, "..."]]:
        arrays: dict[str, Shaped[np.ndarray, ...]] = {"done": np.array(done)}
        for place, part in enumerate(self._parts):
            for what in _KEPT:
                arrays |= within(f"{place}.{what}", getattr(part, what).state())
        return arrays

    def _restore(self, arrays: Arrays | None) -> int:
        """Take a kept state on; how many contexts it has done."""
        if arrays is None:
            return 0
        for place, part in enumerate(self._parts):
            for what in _KEPT:
                getattr(part, what).restore(below(f"{place}.{what}", arrays))
        return int(arrays["done"])

    def _read(self, numbers: Sequence[int]) -> None:
        tokens = self._read_tokens(numbers)
        contexts = _padded([tokens[n] for n in numbers], self._rules)
        aligned = self._streams(self._aligned, contexts)
        both = numbers[0] in self._sampled
        base = self._streams(self._base, contexts) if both else {}
        for part in self._parts:
            hook = part.sae.info.hook_name
            if both:
                _compare(part, numbers, contexts.scored, base[hook], aligned[hook])
            _fill(part, numbers, contexts.scored, aligned[hook])

    def _streams(self, loaded: LoadedModel, contexts: Contexts) -> dict[str, Tensor]:
        return capture(loaded, contexts.input_ids, contexts.attention_mask, self._hooks)


def _split(
    numbers: Int64[np.ndarray, " context"], sampled: set[int], size: int
) -> Iterator[Sequence[int]]:
    """Batches of contexts that are all in the uniform sample, or all not."""
    inside = [n for n in numbers.tolist() if n in sampled]
    outside = [n for n in numbers.tolist() if n not in sampled]
    for group in (inside, outside):
        yield from chunks(group, size)


def _padded(rows: Sequence[Int32[np.ndarray, " _"]], rules: Tokenization) -> Contexts:
    width = max(len(row) for row in rows)
    contexts = pad_contexts([row.tolist() for row in rows], rules, context_size=width)
    first = torch.arange(width) > 0  # BOS never counts, whatever id it has
    return Contexts(
        input_ids=contexts.input_ids,
        attention_mask=contexts.attention_mask,
        scored=contexts.scored & first,
    )


def _compare(
    part: _Part,
    numbers: Sequence[int],
    scored: Bool[Tensor, "batch pos"],
    base: Float[Tensor, "batch pos d_in"],
    aligned: Float[Tensor, "batch pos d_in"],
) -> None:
    mine = torch.from_numpy(np.isin(np.asarray(numbers), part.stored.random_contexts))
    mask = (scored & mine[:, None]).to(base.device)
    limit = part.stored.max_norm
    mask &= ~(is_outlier(base, limit) | is_outlier(aligned, limit))
    if not mask.any():
        return
    sizes = mask.sum(dim=1)[mine.to(base.device)].tolist()
    part.corpus.add(base[mask], aligned[mask], sizes)


@torch.inference_mode()
def _fill(
    part: _Part,
    numbers: Sequence[int],
    scored: Bool[Tensor, "batch pos"],
    stream: Float[Tensor, "batch pos d_in"],
) -> None:
    """Put the aligned activations into the rows of these contexts, a few contexts at a time."""
    fillers = [filler for filler in (part.kept, part.random) if any(filler.has(n) for n in numbers)]
    if not fillers:
        return
    width = stream.shape[1]
    step = max(1, _CELLS // (part.sae.info.d_sae * width))
    for first in range(0, len(numbers), step):
        piece = stream[first : first + step]
        with memory_errors("encoding activations"):
            acts = part.sae.encode(piece.reshape(-1, piece.shape[-1]).float())
        outlier = is_outlier(piece, part.stored.max_norm).cpu()
        silent = ~(scored[first : first + step] & ~outlier).reshape(-1)
        found = acts.cpu().masked_fill_(silent[:, None], 0.0)
        dense: Float32[np.ndarray, "context pos d_sae"] = found.view(len(piece), width, -1).numpy()
        for offset, number in enumerate(numbers[first : first + step]):
            for filler in fillers:
                filler.add(number, dense[offset])
