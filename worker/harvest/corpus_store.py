"""The tokenised corpus on disk: written once as a stream, read tile by tile.

A harvest reads its corpus once. What comes after, also after a crash, reads this copy, so a corpus
that changes meanwhile cannot mix into a harvest that has begun.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

from core.domain.activation import StoredContexts
from worker.harvest.files import content_sha256
from worker.harvest.rows import ragged_index

CONTEXT_FIELDS = np.dtype(
    [
        ("offset", "<i8"),
        ("size", "<i4"),
        ("start", "<i4"),
        ("document", "<i8"),
        ("source", "<i4"),
    ]
)
TOKENS_FILE, CONTEXTS_FILE = "tokens.bin", "contexts.bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """What is known of a tokenised corpus.

    Attributes:
        n_tokens: tokens the model sees, BOS included, padding not.
        n_scored: tokens whose activations count.
        corpus_hash: sha256 over every document's source, title and text.
        tokens_hash: sha256 over the tokens and where each context is cut.
        sources: names that contexts point into.
    """

    n_documents: int
    n_contexts: int
    n_tokens: int
    n_scored: int
    corpus_hash: str
    tokens_hash: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Contexts of one forward pass.

    Attributes:
        real: which tokens the model sees; padding stands behind them.
        scored: which tokens count.
        n_tokens: real tokens of real contexts.
    """

    ids: Int32[np.ndarray, "context pos"]
    real: Bool[np.ndarray, "context pos"]
    scored: Bool[np.ndarray, "context pos"]
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusStore:
    """Contexts of a corpus, read from disk as they are asked for."""

    directory: Path
    facts: CorpusFacts
    bos: int
    special_ids: Int64[np.ndarray, " special"]
    context_size: int

    def tile(self, first: int, n: int) -> Tile:
        """``n`` contexts from number ``first`` on; those beyond the corpus hold BOS only."""
        contexts = self._contexts()[first : first + n]
        ids = self._padded(contexts, fill=self.bos)
        ids = np.pad(ids, ((0, n - len(ids)), (0, 0)), constant_values=self.bos)
        sizes = np.zeros(n, np.int64)
        sizes[: len(contexts)] = contexts["size"] + 1
        place = np.arange(self.context_size)
        real = place < sizes[:, None]
        scored = real & (place > 0) & ~np.isin(ids, self.special_ids)
        real[:, 0] = True
        return Tile(ids=ids, real=real, scored=scored, n_tokens=int(sizes.sum()))

    def n_scored(self, index: Int64[np.ndarray, " some"]) -> int:
        """Scored tokens of some contexts."""
        contexts = self._contexts()[np.sort(index)]
        entry = ragged_index(contexts["offset"].astype(np.int64), contexts["size"].astype(np.int32))
        return int((~np.isin(self._tokens()[entry], self.special_ids)).sum())

    def token_at(
        self, context: Int64[np.ndarray, " some"], position: Int64[np.ndarray, " some"]
    ) -> Int32[np.ndarray, " some"]:
        """Token ids at positions after BOS."""
        ids: Int32[np.ndarray, " some"] = np.asarray(
            self._tokens()[self._contexts()["offset"][context] + position - 1], np.int32
        )
        return ids

    def n_tokens_before(self, context: int) -> int:
        """Tokens of the contexts below a number, BOS included."""
        return int(self._contexts()["size"][:context].sum(dtype=np.int64)) + context

    def stored(self, index: Int64[np.ndarray, " kept"]) -> StoredContexts:
        """The contexts of these numbers, ascending, as the database keeps them."""
        contexts = self._contexts()[index]
        return StoredContexts(
            context_index=index.astype(np.int32),
            token_ids=self._padded(contexts, fill=-1),
            document=contexts["document"].astype(np.int64),
            start=contexts["start"].astype(np.int32),
            source_index=contexts["source"].astype(np.int32),
            sources=self.facts.sources,
        )

    def intact(self) -> bool:
        """Whether the files hold what was written."""
        tokens, contexts = self.directory / TOKENS_FILE, self.directory / CONTEXTS_FILE
        if not (tokens.is_file() and contexts.is_file()):
            return False
        return content_sha256(tokens, contexts) == self.facts.tokens_hash

    def _contexts(self) -> Shaped[np.ndarray, " context"]:
        return np.memmap(self.directory / CONTEXTS_FILE, dtype=CONTEXT_FIELDS, mode="r")

    def _tokens(self) -> Int32[np.ndarray, " token"]:
        return np.memmap(self.directory / TOKENS_FILE, dtype="<i4", mode="r")

    def _padded(
        self, contexts: Shaped[np.ndarray, " context"], *, fill: int
    ) -> Int32[np.ndarray, "context pos"]:
        size = contexts["size"].astype(np.int32)
        ids = np.full((len(contexts), self.context_size), fill, np.int32)
        ids[:, 0] = self.bos
        real = np.arange(self.context_size - 1) < size[:, None]
        entry = ragged_index(contexts["offset"].astype(np.int64), size)
        ids[:, 1:][real] = self._tokens()[entry]
        return ids
