"""What a drift keeps of its work, so that another attempt goes on where one ended."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from worker.align.storage import disk_errors

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]
EVERY_SECONDS = 30.0
_IDENTITY = "identity"


class Keeper:
    """Files of arrays in a job's folder; those of another identity count as not there.

    Args:
        folder: where they lie.
        identity: names everything that decides the result.
        every_seconds: least time between two savings of one phase.
    """

    def __init__(
        self, folder: Path, *, identity: str, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._every = every_seconds
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, name: str, arrays: Arrays) -> None:
        """Keep a phase's arrays in place of those before; they appear whole or not at all."""
        path, partial = self._path(name), self._folder / f".{name}.partial.npz"
        with disk_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            np.savez(partial, allow_pickle=False, **{_IDENTITY: np.array(self._identity)}, **arrays)
            partial.replace(path)
        self._saved_at = time.monotonic()

    def load(self, name: str) -> Arrays | None:
        """A phase's arrays; None where nothing of this identity was kept."""
        path = self._path(name)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            if str(file[_IDENTITY]) != self._identity:
                return None
            return {key: file[key] for key in file.files if key != _IDENTITY}

    def clear(self) -> None:
        """Throw everything away."""
        for path in self._folder.glob("drift-*.npz"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"drift-{name}.npz"


def within(prefix: str, arrays: Arrays) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Arrays under a prefix.

    >>> sorted(within("a", {"b": np.zeros(1)}))
    ['a/b']
    """
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def below(prefix: str, arrays: Arrays) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays that :func:`within` put under a prefix."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)
    }
