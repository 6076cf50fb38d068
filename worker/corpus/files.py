"""Local files and folders as documents: plain text, JSON lines, Parquet."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import CorpusUnreadable
from worker.corpus.document import RawDocument

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET_ROWS = 1_000


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
        yield RawDocument(source=path.stem, title=path.name, text=_read_text(path))


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
            source=first if rest else path.resolve().name, title=name, text=_read_text(path / name)
        )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusUnreadable(
            f"{path} is not UTF-8 text (byte {error.start}).", hint="Convert it to UTF-8."
        ) from error
    except OSError as error:
        raise CorpusUnreadable(f"{path} cannot be read: {error.strerror}.") from error


def _read_json_lines(path: Path, column: str) -> Iterator[RawDocument]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield RawDocument(
                        source=path.stem,
                        title=f"{path.name}:{number}",
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
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise CorpusUnreadable(
            f"{where}: no text in field {column!r}; there is {fields or 'no field'}.",
            hint="Name the field that holds the text.",
        )
    text: str = row[column]
    return text


def _read_parquet(path: Path, column: str) -> Iterator[RawDocument]:
    try:
        with pq.ParquetFile(path) as file:
            _check_column(path, file.schema_arrow, column)
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    title = f"{path.name}:{number}"
                    yield RawDocument(source=path.stem, title=title, text=text or "")
    except (pa.ArrowException, OSError) as error:
        raise CorpusUnreadable(f"{path} is not a readable Parquet file: {error}.") from error


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise CorpusUnreadable(
            f"{path} has no column {column!r}; there is {', '.join(schema.names)}.",
            hint="Name the column that holds the text.",
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise CorpusUnreadable(f"Column {column!r} of {path} holds {kind}, not text.")
