"""Files that appear whole or not at all, and a full disk told in our words."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.errors import DiskFull

_DIGEST = "sha256"  # in the header of a file of tensors
_FULL = {errno.ENOSPC, errno.EDQUOT}
# How safetensors and torch's C++ writers tell of it; a short write is all that torch notices.
_FULL_WORDS = ("No space left", "file write failed", "iostream error", "unexpected pos")


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
        if not any(words in str(error) for words in _FULL_WORDS):
            raise
        raise _full(path) from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, header: Mapping[str, str]) -> None:
    """A safetensors file with its tensors' digest, written beside its place and moved there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        dense = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(dense, partial, metadata={**header, _DIGEST: tensors_digest(dense)})
        partial.replace(path)


def is_sound(path: Path) -> bool:
    """Whether a file of ``save_tensors`` is there and holds what was written, bit for bit."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return bool((file.metadata() or {}).get(_DIGEST) == tensors_digest(tensors))
    except (SafetensorError, OSError):  # not there, torn or unreadable
        return False


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, formats, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
