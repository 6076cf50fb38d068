"""Documents, and corpora as streams of them that can be read again and again."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.errors import CorpusEmpty


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text of a corpus.

    Attributes:
        document_id: position in the corpus, from 0; the same at every reading.
        source: short label shown beside each context, e.g. "python-docs".
        title: what the text is, e.g. the file's path.
    """

    document_id: int
    source: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """One text as a source delivers it, before it has a place in a corpus."""

    source: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A stream of documents in a fixed order.

    Attributes:
        name: short name, shown beside every harvest.
        read: opens the source anew at every call.
        max_documents: documents kept at most.
        max_tokens: the stream ends with the document that reaches so many tokens.
        count_tokens: tokens of a text, for ``max_tokens``; characters unless a tokenizer is given.
    """

    name: str
    read: Callable[[], Iterator[RawDocument]]
    max_documents: int | None = None
    max_tokens: int | None = None
    count_tokens: Callable[[str], int] = len

    def documents(self) -> Iterator[Document]:
        """The documents with text, numbered from 0, up to the limits.

        Raises:
            CorpusEmpty: no document has text.
        """
        n_tokens = 0
        document_id = -1
        for document_id, raw in enumerate(raw for raw in self.read() if raw.text.strip()):
            if self.max_documents is not None and document_id >= self.max_documents:
                return
            yield Document(
                document_id=document_id, source=raw.source, title=raw.title, text=raw.text
            )
            if self.max_tokens is not None:
                n_tokens += self.count_tokens(raw.text)
                if n_tokens >= self.max_tokens:
                    return
        if document_id < 0:
            raise CorpusEmpty(
                f"The corpus {self.name} holds no document with text.",
                hint="Name another file, folder, column or split.",
            )


def content_hash(corpus: Corpus) -> str:
    """Hex sha256 over every document's source, title and text, in order; reads the whole corpus."""
    total = hashlib.sha256()
    for document in corpus.documents():
        for part in (document.source, document.title, document.text):
            total.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    return total.hexdigest()
