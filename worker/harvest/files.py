"""Files that are there whole or not at all, and errors of a full disk by name."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK_BYTES = 1 << 20


@contextmanager
def room_on_disk(path: Path) -> Iterator[None]:
    """Inside, a full disk is a DiskFull that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"No room left on the disk of {path}.",
            hint="Free some space, or move the data folder (SPARSIGHT_DATA_DIR), and resume.",
        ) from error


def content_sha256(*paths: Path) -> str:
    """Hex sha256 over the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def sync_file(file: BinaryIO) -> None:
    """Force what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays so that the file is there whole or not at all; returns its sha256.

    Raises:
        DiskFull: no room; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with room_on_disk(path.parent):
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                sync_file(file)
            digest = content_sha256(draft)
            draft.replace(path)
            _sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return digest


def load_arrays(path: Path, sha256: str) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None if it is missing or not what was written."""
    if not path.is_file() or content_sha256(path) != sha256:
        return None
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
