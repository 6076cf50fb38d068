"""Rows of JSON, Parquet and Arrow files, numbered from 0, with unreadable lines kept apart."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from core.errors import Invalid, NotFound

_PREVIEW_CHARACTERS = 240
_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet", ".arrow")
_BROKEN = "surrogateescape"
_BOOKKEEPING = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a source.

    Attributes:
        value: what the row holds; None where ``problem`` says why it could not be read.
        preview: the beginning of the row as text, safe to store and show.
        problem: why the row could not be read; empty where it could.
        part: path of the file below the folder that was named, without its ending, which may name
            a split, e.g. ``data/test_prefs-00000-of-00001``; empty for rows without a file.
    """

    number: int
    value: object
    preview: str
    problem: str = ""
    part: str = ""


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a file, or of every such file below a folder in the order of their paths.

    Endings: .jsonl, .jsonl.gz, .json (a list, or JSON lines), .parquet, and .arrow as the
    ``datasets`` library saves them; that library's bookkeeping files are passed over.

    Raises:
        NotFound: no such file or folder.
        Invalid: an unknown ending, or a file that is not what its ending says.
    """
    files = _files(path)
    number = 0
    for file in files:
        place = file.relative_to(path) if path.is_dir() else Path(file.name)
        part = place.with_name(place.name.split(".")[0]).as_posix()
        for value, problem, preview in _read_file(file):
            yield Row(
                number=number,
                value=value,
                preview=_storable(preview),
                problem=problem,
                part=part,
            )
            number += 1


def rows_of(values: Iterable[object]) -> Iterator[Row]:
    """Rows of values that are already in memory, such as those of a dataset library."""
    for number, value in enumerate(values):
        yield Row(number=number, value=value, preview=_storable(_preview(value)))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise NotFound(f"{path} does not exist.", hint="Check the path on the worker's machine.")
    if path.is_file():
        return [path]
    files = sorted(
        p
        for p in path.rglob("*")
        if p.is_file() and p.name.endswith(_ENDINGS) and p.name not in _BOOKKEEPING
    )
    if not files:
        raise Invalid(f"{path} holds no file that ends in {', '.join(_ENDINGS)}.")
    return files


def _read_file(path: Path) -> Iterator[tuple[object, str, str]]:
    match path.suffixes[-1:]:
        case [".jsonl"]:
            yield from _read_json_lines(path)
        case [".gz"] if path.name.endswith(".jsonl.gz"):
            yield from _read_json_lines(path)
        case [".json"]:
            yield from _read_json(path)
        case [".parquet"]:
            yield from _read_parquet(path)
        case [".arrow"]:
            yield from _read_arrow(path)
        case _:
            raise Invalid(
                f"{path.name} is of no known kind.", hint=f"Give one of {', '.join(_ENDINGS)}."
            )


def _read_json_lines(path: Path) -> Iterator[tuple[object, str, str]]:
    try:
        with _open_text(path) as lines:
            for line in lines:
                if line.strip():
                    yield _parse(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Invalid(f"{path.name} is not a whole gzip file: {error}.") from error


def _open_text(path: Path) -> TextIOWrapper:
    """A text file, unpacked. Bytes that are no text become characters that no row may hold."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=_BROKEN)
    return path.open(encoding=_encoding(path), errors=_BROKEN)


def _encoding(path: Path) -> str:
    """UTF-8, or UTF-16 where a byte-order mark says so, as shells of Windows write it."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"


def _parse(line: str) -> tuple[object, str, str]:
    preview = line[:_PREVIEW_CHARACTERS].strip()
    try:
        return json.loads(line), "", preview
    except json.JSONDecodeError as error:
        msg = error.msg.removesuffix(" at")  # as in "Invalid control character at"
        return None, f"{msg} at column {error.colno}.", preview
    except (ValueError, RecursionError):
        return None, "A number is too long, or the fields are nested too deeply.", preview


def _read_json(path: Path) -> Iterator[tuple[object, str, str]]:
    with _open_text(path) as file:
        text = file.read()
    document, problem, preview = _parse(text)
    if problem:
        yield from _read_json_lines(path)  # many tools name JSON lines .json
    elif isinstance(document, list):
        for value in document:
            yield value, "", _preview(value)
    else:
        yield document, "", preview


def _read_parquet(path: Path) -> Iterator[tuple[object, str, str]]:
    import pyarrow as arrow  # slow to import, and most sources are JSON
    import pyarrow.parquet as parquet

    try:
        batches = parquet.ParquetFile(path).iter_batches(batch_size=1_024)
        for batch in batches:
            for value in batch.to_pylist():
                yield value, "", _preview(value)
    except (arrow.ArrowException, OSError) as error:
        raise Invalid(f"{path.name} is not a Parquet file: {error}.") from error


def _read_arrow(path: Path) -> Iterator[tuple[object, str, str]]:
    import pyarrow as arrow

    try:
        with arrow.ipc.open_stream(path) as batches:
            for batch in batches:
                for value in batch.to_pylist():
                    yield value, "", _preview(value)
    except (arrow.ArrowException, OSError) as error:
        raise Invalid(f"{path.name} is not an Arrow stream: {error}.") from error


def _preview(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:_PREVIEW_CHARACTERS]


def _storable(text: str) -> str:
    """The text without what a database or a page cannot hold: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
