"""Files that appear whole or not at all, and a full disk told in our words."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from core.errors import DiskFull

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Inside, a full disk becomes DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _full(path) from error
    except (SafetensorError, RuntimeError) as error:
        if "No space left" not in str(error) and "file write failed" not in str(error):
            raise
        raise _full(path) from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, header: Mapping[str, str]) -> None:
    """A safetensors file, written beside its place and moved there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        dense = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(dense, partial, metadata=dict(header))
        partial.replace(path)


def save_text(text: str, path: Path) -> None:
    """A text file, written beside its place and moved there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its place at the end; one that is there already is replaced."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(path):
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(path, ignore_errors=True)
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def folder_bytes(path: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def canonical(value: object) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _full(path: Path) -> DiskFull:
    return DiskFull(
        f"The disk is full; {path.name} could not be written.",
        hint="Free some space, then resume: what was finished is kept.",
    )
