"""Files and folders as corpora, and what is said when they cannot be read."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.domain.corpus import DemoCorpusSpec, FileCorpusSpec, FolderCorpusSpec
from core.errors import CorpusEmpty, CorpusUnreadable
from worker.corpus.open import open_corpus


def texts(spec, tmp_path):
    corpus = open_corpus(spec, cache_dir=tmp_path, count_tokens=len)
    return [document.text for document in corpus.documents()]


def test_text_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("Ärger\tim Büro\n", encoding="utf-8")
    assert texts(FileCorpusSpec(path=str(tmp_path / "a.txt")), tmp_path) == ["Ärger\tim Büro\n"]


def test_json_lines_and_parquet_give_one_document_a_row(tmp_path):
    rows = [{"body": "first", "n": 1}, {"body": "second", "n": 2}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        spec = FileCorpusSpec(path=str(tmp_path / name), column="body")
        assert texts(spec, tmp_path) == ["first", "second"]


def test_folder_is_read_in_order_of_paths_and_labelled_by_first_folder(tmp_path):
    for name in ("b/x.txt", "a/deep/y.md", "z.txt", "a/skip.bin"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text(name)
    corpus = open_corpus(
        FolderCorpusSpec(path=str(tmp_path / "top")), cache_dir=tmp_path, count_tokens=len
    )
    assert [(document.source, document.title) for document in corpus.documents()] == [
        ("a", "a/deep/y.md"),
        ("b", "b/x.txt"),
        ("top", "z.txt"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"body": "x"}\n', "no text in field 'text'; there is body"),
        ("a.jsonl", b'{"text": "x"}\n{oops\n', "line 2: not JSON"),
        ("a.jsonl", b"3\n", "no JSON object, but int"),
        ("a.jsonl", b'{"text": 3}\n', "no text in field 'text'; it holds 3"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.parquet", b"PAR0", "not a readable Parquet file"),
    ],
)
def test_unreadable_file_says_where_and_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusUnreadable, match=message):
        texts(FileCorpusSpec(path=str(tmp_path / name)), tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [({"body": ["x"]}, "no column 'text'; there is body"), ({"text": [1]}, "int64, not text")],
)
def test_wrong_parquet_column_is_named(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(CorpusUnreadable, match=message):
        texts(FileCorpusSpec(path=str(tmp_path / "a.parquet")), tmp_path)


def test_missing_file_folder_and_empty_folder(tmp_path):
    with pytest.raises(CorpusUnreadable, match="There is no file"):
        texts(FileCorpusSpec(path=str(tmp_path / "none.txt")), tmp_path)
    with pytest.raises(CorpusUnreadable, match="There is no folder"):
        texts(FolderCorpusSpec(path=str(tmp_path / "none")), tmp_path)
    with pytest.raises(CorpusEmpty):
        texts(FolderCorpusSpec(path=str(tmp_path)), tmp_path)


def test_nothing_is_fetched_before_the_first_document(tmp_path):
    corpus = open_corpus(DemoCorpusSpec(), cache_dir=tmp_path, count_tokens=len)
    assert corpus.name == "demo-harvest"
    assert list(tmp_path.iterdir()) == []


def test_byte_order_marks_in_front_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffplain", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('\ufeff{"text": "line"}\n', encoding="utf-8")
    assert texts(FileCorpusSpec(path=str(tmp_path / "a.txt")), tmp_path) == ["plain"]
    assert texts(FileCorpusSpec(path=str(tmp_path / "a.jsonl")), tmp_path) == ["line"]


def test_halves_of_surrogate_pairs_in_json_become_replacement_characters(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b \\ud83d\\ude42"}\n')
    assert texts(FileCorpusSpec(path=str(tmp_path / "a.jsonl")), tmp_path) == ["a \ufffd b 🙂"]


def test_names_of_files_that_are_not_utf8_are_shown_with_replacement_characters(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"bad\xff")  # noqa: PTH118 - Path knows no bytes
    os.mkdir(folder)  # noqa: PTH102
    Path(os.fsdecode(folder), "a.txt").write_text("words")
    corpus = open_corpus(FolderCorpusSpec(path=str(tmp_path)), cache_dir=tmp_path, count_tokens=len)
    (document,) = corpus.documents()
    assert (document.source, document.title) == ("bad\ufffd", "bad\ufffd/a.txt")
