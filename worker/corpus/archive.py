"""Text members of wheels and sdists, in the order of their names."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from core.errors import CorpusUnreadable


def read_members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of an archive whose name matches ``pattern`` in full.

    An sdist's leading folder (``Django-5.2/``) is not part of the name. Sorted by name.

    Raises:
        CorpusUnreadable: the archive is damaged.
    """
    try:
        members = _read_zip(path, pattern) if path.suffix == ".whl" else _read_tar(path, pattern)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise CorpusUnreadable(
            f"{path} cannot be unpacked: {error}.", hint="Delete it; it is fetched again."
        ) from error
    yield from sorted(members)


def _read_zip(path: Path, pattern: re.Pattern[str]) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if pattern.fullmatch(name)]
        return [(name, archive.read(name)) for name in names]


def _read_tar(path: Path, pattern: re.Pattern[str]) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if member.isfile() and pattern.fullmatch(name):
                stream = archive.extractfile(member)
                if stream is None:
                    raise CorpusUnreadable(f"{path} holds no bytes for {member.name}.")
                found.append((name, stream.read()))
    return found
