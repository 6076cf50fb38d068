"""Stored preference sets: one canonical file a set, named by its content, and the shipped one.

A line holds one pair: prompt, chosen and rejected as messages, the split, and the number of the
row it came from. The file's name is the hash of the pairs and their splits, so equal uploads share
a file, and a run that names the hash reads exactly those pairs.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.domain.preference import (
    PreferencePair,
    PreferenceSet,
    Role,
    Split,
    Turn,
    content_hash,
)
from core.errors import Conflict, NotFound
from core.interchange.preferences import read_preferences

FOLDER = "preferences"  # in the data folder
UPLOADS = "uploads"  # too: what was read but not saved yet
_DEMO = files("core") / "presets" / "align" / "demo_preferences.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPairs:
    """A canonical file as it was written.

    Attributes:
        lengths: bytes of each line, its end included.
        held_out: whether each line's pair is held out.
    """

    content_hash: str
    lengths: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return int(self.lengths.sum())


def upload_rows(data_dir: Path, token: str) -> Path:
    """Folder of the file or files of an upload."""
    return data_dir / UPLOADS / token / "file"


def read_demo() -> PreferenceSet:
    """The set that ships: direct answers preferred over evasive ones."""
    with as_file(_DEMO) as path:
        return read_preferences(path)


def save_pairs(pairs: Sequence[PreferencePair], data_dir: Path) -> SavedPairs:
    """Write the pairs' file, which appears whole, unless it is there already."""
    name = content_hash(pairs)
    lines = [(_line(pair) + "\n").encode() for pair in pairs]
    path = _path(data_dir, name)
    saved = SavedPairs(
        content_hash=name,
        lengths=np.array([len(line) for line in lines], np.int64),
        held_out=np.array([pair.split is Split.EVAL for pair in pairs], np.bool_),
    )
    if not path.is_file() or path.stat().st_size != saved.n_bytes:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(b"".join(lines))
        partial.replace(path)
    return saved


def load_pairs(data_dir: Path, name: str) -> PreferenceSet:
    """Every pair of a stored set; its rejected rows are in the database.

    Raises:
        NotFound: there is no such file.
        Conflict: the file is not what its name says.
    """
    with _open(data_dir, name) as file:
        pairs = tuple(_pair(line) for line in file)
    if content_hash(pairs) != name:
        raise Conflict(
            f"The stored preference set {name[:12]} was changed on disk.",
            hint="Upload its source again.",
        )
    return PreferenceSet(pairs=pairs, rejected=(), n_rows=len(pairs))


def read_some(
    data_dir: Path, name: str, *, lengths: npt.NDArray[np.int64], positions: Iterable[int]
) -> Iterator[PreferencePair]:
    """The pairs at some positions of a stored set.

    Raises:
        NotFound: there is no such file.
    """
    ends = np.cumsum(lengths)
    with _open(data_dir, name) as file:
        for position in positions:
            file.seek(int(ends[position] - lengths[position]))
            yield _pair(file.read(int(lengths[position])))


def remove_pairs(data_dir: Path, name: str) -> None:
    """Remove a stored set's file, if it is there."""
    _path(data_dir, name).unlink(missing_ok=True)


def _path(data_dir: Path, name: str) -> Path:
    return data_dir / FOLDER / f"{name}.jsonl"


def _open(data_dir: Path, name: str) -> BufferedReader:
    try:
        return _path(data_dir, name).open("rb")
    except FileNotFoundError as error:
        raise NotFound(
            f"The stored preference set {name[:12]} is not in the data folder.",
            hint="Upload its source again, or share the data folder between the processes.",
        ) from error


def _line(pair: PreferencePair) -> str:
    record = {
        "prompt": _messages(pair.prompt),
        "chosen": _messages(pair.chosen),
        "rejected": _messages(pair.rejected),
        "split": pair.split.value,
        "row": pair.row,
    }
    return json.dumps(record, ensure_ascii=False)


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role.value, "content": turn.content} for turn in turns]


def _pair(line: bytes) -> PreferencePair:
    record = json.loads(line)
    return PreferencePair(
        prompt=_turns(record["prompt"]),
        chosen=_turns(record["chosen"]),
        rejected=_turns(record["rejected"]),
        split=Split(record["split"]),
        row=record["row"],
    )


def _turns(messages: list[dict[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(role=Role(m["role"]), content=m["content"]) for m in messages)
