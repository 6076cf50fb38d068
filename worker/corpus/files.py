"""Local files and folders as documents: plain text, JSON lines, Parquet."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import CorpusUnreadable
from worker.corpus.document import RawDocument

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET_ROWS = 1_000
_UTF8 = "utf-8-sig"  # a byte order mark in front is no part of the text


def read_file(path: Path, *, column: str) -> Iterator[RawDocument]:
    """The documents of one file: the whole of a text, or one a row.

    Raises:
        CorpusUnreadable: no such file, a broken row, or a missing field or column.
    """
    if not path.is_file():
        raise CorpusUnreadable(
            f"There is no file {path}.", hint="Name an existing text, JSON-lines or Parquet file."
        )
    if path.suffix in _JSON_LINES:
        yield from _read_json_lines(path, column)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path, column)
    else:
        yield RawDocument(source=shown(path.stem), title=shown(path.name), text=_read_text(path))


def read_folder(path: Path, *, suffixes: tuple[str, ...]) -> Iterator[RawDocument]:
    """One document a file below ``path`` with one of these endings, in the order of their paths.

    The label is the first folder below ``path``, or the folder's own name.

    Raises:
        CorpusUnreadable: no such folder, or a file in it cannot be read.
    """
    if not path.is_dir():
        raise CorpusUnreadable(
            f"There is no folder {path}.", hint="Name an existing folder of text files."
        )
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix in suffixes and file.is_file()
    )
    for name in names:
        first, _, rest = name.partition("/")
        yield RawDocument(
            source=shown(first if rest else path.resolve().name),
            title=shown(name),
            text=_read_text(path / name),
        )


def shown(name: str) -> str:
    r"""A file's name as text; bytes of it that are not UTF-8 become U+FFFD.

    >>> shown("caf\udce9")
    'caf�'
    """
    return os.fsencode(name).decode("utf-8", errors="replace")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding=_UTF8)
    except UnicodeDecodeError as error:
        raise CorpusUnreadable(
            f"{path} is not UTF-8 text (byte {error.start}).", hint="Convert it to UTF-8."
        ) from error
    except OSError as error:
        raise CorpusUnreadable(f"{path} cannot be read: {error.strerror}.") from error


def _read_json_lines(path: Path, column: str) -> Iterator[RawDocument]:
    try:
        with path.open(encoding=_UTF8) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield RawDocument(
                        source=shown(path.stem),
                        title=f"{shown(path.name)}:{number}",
                        text=_field(line, column, where=f"{path}, line {number}"),
                    )
    except UnicodeDecodeError as error:
        raise CorpusUnreadable(f"{path} is not UTF-8 text.", hint="Convert it to UTF-8.") from error
    except OSError as error:
        raise CorpusUnreadable(f"{path} cannot be read: {error.strerror}.") from error


def _field(line: str, column: str, *, where: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorpusUnreadable(
            f"{where}: not JSON ({error.msg}).", hint="Write one JSON object a line."
        ) from error
    if not isinstance(row, dict):
        raise CorpusUnreadable(
            f"{where}: no JSON object, but {type(row).__name__}.",
            hint="Write one JSON object a line.",
        )
    if not isinstance(row.get(column), str):
        found = f"it holds {json.dumps(row[column])[:40]}" if column in row else _fields(row)
        raise CorpusUnreadable(
            f"{where}: no text in field {column!r}; {found}.",
            hint="Name the field that holds the text.",
        )
    return _whole(row[column])


def _fields(row: dict[str, object]) -> str:
    return f"there is {', '.join(row) or 'no field'}"


def _whole(text: str) -> str:
    r"""The text with U+FFFD for halves of surrogate pairs, which JSON can write and UTF-8 cannot.

    >>> _whole("a\ud800b")
    'a�b'
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _read_parquet(path: Path, column: str) -> Iterator[RawDocument]:
    try:
        with pq.ParquetFile(path) as file:
            _check_column(path, file.schema_arrow, column)
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    title = f"{shown(path.name)}:{number}"
                    yield RawDocument(source=shown(path.stem), title=title, text=text or "")
    except (pa.ArrowException, OSError) as error:
        raise CorpusUnreadable(
            f"{path} is not a readable Parquet file: {str(error).rstrip('.')}.",
            hint="Check that the file is whole.",
        ) from error


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise CorpusUnreadable(
            f"{path} has no column {column!r}; there is {', '.join(schema.names)}.",
            hint="Name the column that holds the text.",
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise CorpusUnreadable(f"Column {column!r} of {path} holds {kind}, not text.")
