"""States on disk: saved after a shard, found again after a crash."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from worker.harvest.files import load_arrays, save_arrays
from worker.harvest.state import SaeState, state_arrays, state_from_arrays
from worker.progress import JobContext

_PREFIX = "shard-"
_KEPT = 2  # the last one, and the one before in case the last is broken
_LEAST_SHARE = 10  # time between two saves, in units of the time a save takes


class _SavedShard(BaseModel):
    """What a finished shard's item records.

    Attributes:
        next_context: contexts below this number are in the state.
        files: sha256 of each SAE's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    next_context: int
    files: tuple[str, ...]


class Resumed(NamedTuple):
    """A state found on disk, a part an SAE."""

    next_context: int
    states: tuple[SaeState, ...]


class Checkpoints:
    """Saves the state after shards; each file holds all shards up to its own.

    A save is skipped while the last one would cost more than a tenth of the time since, so wide
    SAEs spend their time on the model. Which shards are saved never changes a result.
    """

    def __init__(self, job: JobContext) -> None:
        self._job = job
        self._folder = job.work_dir / "shards"
        self._saved_at = -float("inf")
        self._save_seconds = 0.0

    def due(self) -> bool:
        """Whether enough work was done since the last save."""
        return time.monotonic() - self._saved_at >= _LEAST_SHARE * self._save_seconds

    def save(self, shard: int, *, next_context: int, states: Sequence[SaeState]) -> None:
        """Save the state after a shard; a crash meanwhile leaves the one before."""
        began = time.monotonic()
        files = tuple(
            save_arrays(self._path(shard, place), state_arrays(state))
            for place, state in enumerate(states)
        )
        saved = _SavedShard(next_context=next_context, files=files)
        self._job.finish_item(f"{_PREFIX}{shard:06d}", saved.model_dump_json())
        self._forget_before(shard)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - began

    def newest(self, finished: Mapping[str, JsonValue]) -> Resumed | None:
        """The newest state whose files are all as they were written."""
        for key in sorted((k for k in finished if k.startswith(_PREFIX)), reverse=True):
            try:
                saved = _SavedShard.model_validate_json(str(finished[key]))
            except ValidationError:
                continue
            states = self._load(int(key.removeprefix(_PREFIX)), saved)
            if states is not None:
                return Resumed(saved.next_context, states)
        return None

    def _load(self, shard: int, saved: _SavedShard) -> tuple[SaeState, ...] | None:
        states = []
        for place, digest in enumerate(saved.files):
            arrays = load_arrays(self._path(shard, place), digest)
            if arrays is None:
                return None
            states.append(state_from_arrays(arrays))
        return tuple(states)

    def _path(self, shard: int, place: int) -> Path:
        return self._folder / f"{shard:06d}-sae-{place:03d}.npz"

    def _forget_before(self, shard: int) -> None:
        shards = sorted({path.name[:6] for path in self._folder.iterdir()})
        kept = [name for name in shards if name <= f"{shard:06d}"][-_KEPT:]
        for path in self._folder.iterdir():
            if path.name[:6] not in kept:
                path.unlink(missing_ok=True)
