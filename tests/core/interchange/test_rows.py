"""Rows of files: endings, folders, broken lines, and names of splits."""

import gzip
import json
import warnings

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from core.domain.preference import RejectReason, Split
from core.errors import Invalid, NotFound
from core.interchange.preferences import read_preferences
from core.interchange.rows import read_rows

PAIR = {"prompt": "Two and two?", "chosen": "Four.", "rejected": "Who knows."}
OTHER = {"prompt": "Three and three?", "chosen": "Six.", "rejected": "Hard to tell."}


def test_a_broken_line_is_kept_as_a_row_with_its_problem(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(PAIR) + '\n{"prompt": \n\n' + json.dumps(OTHER) + "\n")
    found = read_preferences(path)
    assert [pair.row for pair in found.pairs] == [0, 2]
    (bad,) = found.rejected
    assert (bad.row, bad.reason) == (1, RejectReason.NOT_JSON)
    assert "column" in bad.detail
    assert found.n_rows == 3


def test_a_line_that_is_cut_within_a_text_is_told_by_its_column(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "cut\n')
    (row,) = read_rows(path)
    assert row.problem == "Invalid control character at column 16."


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' + "9" * 5_000 + "}"])
def test_a_line_that_no_reader_can_hold_is_a_row_with_a_problem(tmp_path, line):
    path = tmp_path / "pairs.jsonl"
    path.write_text(line)
    (row,) = read_rows(path)
    assert row.problem
    assert len(row.preview) <= 240


def test_a_byte_order_mark_and_broken_bytes_do_not_stop_the_reader(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\n\xff\xfe\n")
    found = read_preferences(path)
    assert len(found.pairs) == 1
    assert [row.reason for row in found.rejected] == [RejectReason.NOT_JSON]


def test_bytes_that_are_no_text_are_refused_and_not_replaced(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(
        json.dumps({**PAIR, "prompt": "Caf\xe9?"}, ensure_ascii=False).encode("latin1")
    )
    (row,) = read_preferences(path).rejected
    assert row.reason is RejectReason.BROKEN_TEXT
    assert "UTF-8" in row.detail
    row.preview.encode()  # can be stored and shown


def test_a_file_of_a_windows_shell_is_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(f"{json.dumps(PAIR)}\r\n{json.dumps(OTHER)}\r\n".encode("utf-16"))
    assert len(read_preferences(path).pairs) == 2


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/test_gen-00000-of-00001.parquet", Split.EVAL),
        ("data/train_sft-00000-of-00001.parquet", Split.TRAIN),
        ("default/validation/0000.parquet", Split.EVAL),
        ("default/train/0000.parquet", Split.TRAIN),
        ("dev.set.parquet", Split.EVAL),
    ],
)
def test_a_file_or_its_folder_names_the_split(tmp_path, name, split):
    path = tmp_path / "test-of-names" / name
    path.parent.mkdir(parents=True)
    parquet.write_table(arrow.Table.from_pylist([PAIR]), path)
    (pair,) = read_preferences(tmp_path / "test-of-names", held_out_share=0.0).pairs
    assert pair.split is split


def test_json_lines_may_be_packed(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(PAIR) + "\n").encode()))
    assert len(read_preferences(path).pairs) == 1
    path.write_bytes(b"not gzip")
    with pytest.raises(Invalid, match=r"train\.jsonl\.gz"):
        read_preferences(path)


@pytest.mark.parametrize(
    "text", [json.dumps([PAIR, OTHER], indent=1), f"{json.dumps(PAIR)}\n{json.dumps(OTHER)}"]
)
def test_a_json_file_is_a_list_or_lines(tmp_path, text):
    path = tmp_path / "pairs.json"
    path.write_text(text)
    assert len(read_preferences(path).pairs) == 2


def test_parquet_files_of_a_folder_are_read_in_order_with_their_splits(tmp_path):
    for name, row in (("train_prefs-00000-of-00001", PAIR), ("test_prefs-00000-of-00001", OTHER)):
        parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
    found = read_preferences(tmp_path)
    assert [pair.split for pair in found.pairs] == [Split.EVAL, Split.TRAIN]


def test_a_folder_that_the_datasets_library_saved_is_read(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
    parts = {
        "train": datasets.Dataset.from_list([PAIR]),
        "test": datasets.Dataset.from_list([OTHER]),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    found = read_preferences(tmp_path / "saved")
    assert sorted(pair.split for pair in found.pairs) == [Split.EVAL, Split.TRAIN]
    assert not found.rejected


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_file_that_is_not_what_its_ending_says_is_named(tmp_path, ending):
    path = tmp_path / f"pairs.{ending}"
    path.write_text("no")
    with pytest.raises(Invalid, match="pairs"):
        list(read_rows(path))


def test_unknown_endings_and_missing_paths_are_named(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b")
    with pytest.raises(Invalid, match=r"pairs\.csv"):
        list(read_rows(tmp_path / "pairs.csv"))
    with pytest.raises(Invalid, match="holds no file"):
        list(read_rows(tmp_path))
    with pytest.raises(NotFound):
        list(read_rows(tmp_path / "nowhere"))
