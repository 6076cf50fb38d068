"""Hashes of weight files, remembered so that gigabytes are read once."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from worker.packages import file_sha256


def content_sha256(paths: Sequence[Path], *, cache_dir: Path) -> str:
    """Hex sha256 that names the content of some files.

    For one file, what ``sha256sum FILE`` prints; for several, in the order of their names, what
    ``sha256sum FILES | sha256sum`` prints inside their folder. Each file's hash is remembered
    below ``cache_dir`` by path, size and time of change.
    """
    ordered = sorted(paths, key=lambda path: path.name)
    hashes = [_remembered_sha256(path.resolve(), cache_dir=cache_dir) for path in ordered]
    if len(hashes) == 1:
        return hashes[0]
    lines = [f"{sha256}  {path.name}\n" for sha256, path in zip(hashes, ordered, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _remembered_sha256(path: Path, *, cache_dir: Path) -> str:
    stat = path.stat()
    key = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    note = cache_dir / "hashes" / hashlib.sha256(key.encode()).hexdigest()
    if note.is_file():
        return note.read_text(encoding="ascii")
    sha256 = file_sha256(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_suffix(f".{id(key):x}.partial")
    partial.write_text(sha256, encoding="ascii")
    partial.replace(note)
    return sha256
