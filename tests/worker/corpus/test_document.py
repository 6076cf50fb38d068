"""Corpora: numbering, limits, emptiness, content hash."""

import pytest

from core.errors import CorpusEmpty
from worker.corpus.document import Corpus, RawDocument, content_hash


def corpus_of(*texts, **limits):
    documents = [RawDocument(source="test", title=str(i), text=t) for i, t in enumerate(texts)]
    return Corpus(name="test", read=lambda: iter(documents), **limits)


def words(text):
    return len(text.split())


def test_documents_without_text_are_left_out_and_the_rest_numbered():
    documents = list(corpus_of("one", " \n", "two").documents())
    assert [(document.document_id, document.text) for document in documents] == [
        (0, "one"),
        (1, "two"),
    ]


def test_limits_end_the_stream():
    texts = ["a b c", "d e", "f g", "h"]
    assert len(list(corpus_of(*texts, max_documents=2).documents())) == 2
    limited = corpus_of(*texts, max_tokens=4, count_tokens=words)
    assert [document.text for document in limited.documents()] == ["a b c", "d e"]


@pytest.mark.parametrize("texts", [(), ("", "  ")])
def test_empty_corpus_is_an_error(texts):
    with pytest.raises(CorpusEmpty, match="test holds no document"):
        list(corpus_of(*texts).documents())


def test_content_hash_tells_texts_and_borders_apart():
    same = content_hash(corpus_of("ab", "c"))
    assert content_hash(corpus_of("ab", "c")) == same
    assert content_hash(corpus_of("a", "bc")) != same
    assert content_hash(corpus_of("c", "ab")) != same
