"""A stream of documents as contexts of tokens on disk."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from core.errors import CorpusEmpty
from worker.corpus.document import Document
from worker.harvest.corpus_store import (
    CONTEXT_FIELDS,
    CONTEXTS_FILE,
    TOKENS_FILE,
    CorpusFacts,
    CorpusStore,
)
from worker.harvest.files import content_sha256, room_on_disk, sync_file

_DOCUMENTS_AT_ONCE = 64
_CHARACTERS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """How documents become contexts.

    Attributes:
        tokenise: token ids of several texts, without BOS.
        bos: token in front of every context.
        special_ids: tokens that the model sees and whose activations do not count.
    """

    tokenise: Callable[[Sequence[str]], list[list[int]]]
    bos: int
    special_ids: Int64[np.ndarray, " special"]
    context_size: int
    max_tokens: int | None


def write_corpus(
    documents: Iterable[Document],
    cutting: Cutting,
    directory: Path,
    *,
    on_batch: Callable[[int], None],
) -> CorpusStore:
    """Tokenise a corpus into ``directory``; nothing of it is held in memory.

    Args:
        documents: the corpus.
        cutting: how documents become contexts.
        directory: created; what it holds is replaced.
        on_batch: called with the tokens written so far.

    Raises:
        CorpusEmpty: no document gave a token that counts.
        DiskFull: no room for the copy.
    """
    directory.mkdir(parents=True, exist_ok=True)
    writer = _Writer(cutting)
    tokens_path, contexts_path = directory / TOKENS_FILE, directory / CONTEXTS_FILE
    with (
        room_on_disk(directory),
        tokens_path.open("wb") as tokens,
        contexts_path.open("wb") as contexts,
    ):
        for batch in _batches(documents):
            writer.write(batch, tokens, contexts)
            on_batch(writer.n_tokens)
            if writer.full:
                break
        sync_file(tokens)
        sync_file(contexts)
    if not writer.n_contexts:
        raise CorpusEmpty(
            "The corpus holds no text that the tokenizer turns into tokens.",
            hint="Name another file, folder, column or split.",
        )
    facts = writer.facts(content_sha256(tokens_path, contexts_path))
    if not facts.n_scored:
        raise CorpusEmpty(
            "The corpus holds special tokens only, whose activations do not count.",
            hint="Name another file, folder, column or split.",
        )
    return CorpusStore(
        directory=directory,
        facts=facts,
        bos=cutting.bos,
        special_ids=cutting.special_ids,
        context_size=cutting.context_size,
    )


class _Writer:
    """Appends documents to the two files and counts what it wrote."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting
        self._digest = hashlib.sha256()
        self._sources: dict[str, int] = {}
        self._n_text_tokens = 0
        self._n_scored = 0
        self._n_documents = 0
        self.n_contexts = 0

    @property
    def n_tokens(self) -> int:
        return self._n_text_tokens + self.n_contexts

    @property
    def full(self) -> bool:
        limit = self._cutting.max_tokens
        return limit is not None and self._n_text_tokens >= limit

    def write(self, batch: Sequence[Document], tokens: BinaryIO, contexts: BinaryIO) -> None:
        ids_of = self._cutting.tokenise([document.text for document in batch])
        for document, ids in zip(batch, ids_of, strict=True):
            self._write_one(document, np.array(ids, "<i4"), tokens, contexts)
            if self.full:
                return

    def _write_one(
        self, document: Document, ids: np.ndarray, tokens: BinaryIO, contexts: BinaryIO
    ) -> None:
        for part in (document.source, document.title, document.text):
            self._digest.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
        source = self._sources.setdefault(document.source, len(self._sources))
        start = np.arange(0, len(ids), self._cutting.context_size - 1)
        rows = np.empty(len(start), CONTEXT_FIELDS)
        rows["start"] = start
        rows["offset"] = self._n_text_tokens + start
        rows["size"] = np.minimum(len(ids) - start, self._cutting.context_size - 1)
        rows["document"] = document.document_id
        rows["source"] = source
        tokens.write(ids.tobytes())
        contexts.write(rows.tobytes())
        self._n_documents += 1
        self._n_text_tokens += len(ids)
        self._n_scored += int((~np.isin(ids, self._cutting.special_ids)).sum())
        self.n_contexts += len(rows)

    def facts(self, tokens_hash: str) -> CorpusFacts:
        return CorpusFacts(
            n_documents=self._n_documents,
            n_contexts=self.n_contexts,
            n_tokens=self.n_tokens,
            n_scored=self._n_scored,
            corpus_hash=self._digest.hexdigest(),
            tokens_hash=tokens_hash,
            sources=tuple(self._sources),
        )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    n_characters = 0
    for document in documents:
        batch.append(document)
        n_characters += len(document.text)
        if len(batch) >= _DOCUMENTS_AT_ONCE or n_characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch
