"""Documents as contexts on disk, and files that are whole or not there."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import CorpusEmpty, DiskFull
from worker.corpus.document import Corpus, Document, RawDocument, content_hash
from worker.harvest import files
from worker.harvest.files import load_arrays, save_arrays
from worker.harvest.tokenise import Cutting, write_corpus

BOS, SPECIAL = 1, 2


def cutting(context_size: int = 4, max_tokens: int | None = None) -> Cutting:
    """Tokens are characters' codes; ``#`` is a special token."""
    return Cutting(
        tokenise=lambda texts: [[SPECIAL if c == "#" else ord(c) for c in text] for text in texts],
        bos=BOS,
        special_ids=np.array([BOS, SPECIAL]),
        context_size=context_size,
        max_tokens=max_tokens,
    )


def documents(*texts: str) -> list[Document]:
    return [
        Document(document_id=number, source=f"source {number % 2}", title="", text=text)
        for number, text in enumerate(texts)
    ]


def write(tmp_path, texts, **options):
    return write_corpus(
        documents(*texts), cutting(**options), tmp_path / "corpus", on_batch=lambda _n: None
    )


def test_a_document_is_cut_into_contexts_that_start_with_bos_and_nothing_is_dropped(tmp_path):
    store = write(tmp_path, ["abcdefg", "xy"])
    assert store.facts.n_contexts == 4
    assert store.facts.n_tokens == 9 + 4
    assert store.facts.n_scored == 9
    stored = store.stored(np.array([0, 2, 3]))
    assert stored.token_ids.tolist() == [
        [BOS, ord("a"), ord("b"), ord("c")],
        [BOS, ord("g"), -1, -1],
        [BOS, ord("x"), ord("y"), -1],
    ]
    assert stored.start.tolist() == [0, 6, 0]
    assert stored.document.tolist() == [0, 0, 1]
    assert [stored.sources[i] for i in stored.source_index] == ["source 0"] * 2 + ["source 1"]


def test_bos_padding_and_special_tokens_do_not_count(tmp_path):
    store = write(tmp_path, ["a#", "b"])
    tile = store.tile(0, 4)
    assert (
        tile.ids.tolist()
        == [[BOS, ord("a"), SPECIAL, BOS], [BOS, ord("b"), BOS, BOS]] + [[BOS] * 4] * 2
    )
    assert (
        tile.scored.tolist()
        == [
            [False, True, False, False],
            [False, True, False, False],
        ]
        + [[False] * 4] * 2
    )
    assert tile.real[:2].tolist() == [[True, True, True, False], [True, True, False, False]]
    assert tile.real[:, 0].all()
    assert tile.n_tokens == store.facts.n_tokens == 5
    assert store.facts.n_scored == store.n_scored(np.array([1, 0])) == 2


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="abc#", min_size=0, max_size=30), min_size=1, max_size=8),
    size=st.integers(2, 9),
)
def test_every_token_is_in_exactly_one_context(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("c")
    if not "".join(texts).strip("#"):
        with pytest.raises(CorpusEmpty):
            write(folder, texts, context_size=size)
        return
    store = write(folder, texts, context_size=size)
    stored = store.stored(np.arange(store.facts.n_contexts))
    ids = stored.token_ids[:, 1:]
    text = "".join("#" if i == SPECIAL else chr(i) for i in ids[ids >= 0])
    assert text == "".join(texts)
    tiles = [store.tile(first, 3) for first in range(0, store.facts.n_contexts, 3)]
    assert sum(tile.n_tokens for tile in tiles) == store.facts.n_tokens
    assert sum(int(tile.scored.sum()) for tile in tiles) == store.facts.n_scored
    assert store.n_tokens_before(store.facts.n_contexts) == store.facts.n_tokens


def test_reading_ends_with_the_document_that_reaches_the_limit(tmp_path):
    store = write(tmp_path, ["abcd", "efgh", "ijkl"], max_tokens=5)
    assert store.facts.n_documents == 2


def test_the_corpus_hash_is_that_of_the_documents_read(tmp_path):
    store = write(tmp_path, ["ab", "c"])
    raw = [RawDocument(source=d.source, title=d.title, text=d.text) for d in documents("ab", "c")]
    corpus = Corpus(name="c", read=lambda: iter(raw))
    assert store.facts.corpus_hash == content_hash(corpus)


def test_a_corpus_without_a_token_is_empty(tmp_path):
    with pytest.raises(CorpusEmpty):
        write(tmp_path, [""])


def test_a_corpus_of_special_tokens_only_is_empty(tmp_path):
    with pytest.raises(CorpusEmpty, match="special tokens only"):
        write(tmp_path, ["##"])


def test_a_changed_copy_is_noticed(tmp_path):
    store = write(tmp_path, ["abcdefg"])
    assert store.intact()
    path = store.directory / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not store.intact()
    path.unlink()
    assert not store.intact()


def test_arrays_come_back_as_they_were_and_broken_files_do_not(tmp_path):
    path = tmp_path / "deep" / "a.npz"
    digest = save_arrays(path, {"x.y": np.arange(3), "empty": np.empty((0, 2), np.float32)})
    arrays = load_arrays(path, digest)
    assert arrays is not None
    assert arrays["x.y"].tolist() == [0, 1, 2]
    assert arrays["empty"].shape == (0, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert load_arrays(path, digest) is None
    assert load_arrays(tmp_path / "none.npz", digest) is None


def test_a_full_disk_says_so_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    digest = save_arrays(path, {"x": np.arange(3)})

    def refuse(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync_file", refuse)
    with pytest.raises(DiskFull, match="No room left"):
        save_arrays(path, {"x": np.arange(4)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
    assert load_arrays(path, digest) is not None
