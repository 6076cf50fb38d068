"""The processes of a PostgreSQL data folder: its postmaster, and what a crash left of it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_GRACE_SECONDS = 5.0
_YOUNG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What ``postmaster.pid`` and the process table say of one data folder."""

    folder: Path

    @property
    def pid_file(self) -> Path:
        """Where PostgreSQL writes its process id."""
        return self.folder / "postmaster.pid"

    def process(self) -> psutil.Process | None:
        """The living postmaster; None if the file is missing, stale, or its pid is another's."""
        pid = _first_number(self.pid_file)
        try:
            process = psutil.Process(pid) if pid else None
            return process if process is not None and _is_postgres(process) else None
        except psutil.Error:
            return None

    def is_young(self) -> bool:
        """Whether the postmaster started a moment ago and may not have a socket yet."""
        process = self.process()
        with contextlib.suppress(psutil.Error):
            if process is not None:
                return time.time() - process.create_time() < _YOUNG_SECONDS
        return False

    def clear_away(self, socket_lock: Path) -> None:
        """Make room for a new postmaster after a crash.

        PostgreSQL removes stale lock files itself, unless their number lives on in another process
        (or as a zombie). Orphaned backends are given time to notice, then ended: a second
        postmaster beside them would damage the data.
        """
        files = [path for path in (self.pid_file, socket_lock) if path.exists()]
        if not files or self.process() is not None:
            return
        deadline = time.monotonic() + _GRACE_SECONDS
        while orphans := list(self._orphans()):
            if time.monotonic() > deadline:
                for orphan in orphans:
                    with contextlib.suppress(psutil.Error):
                        orphan.kill()
            time.sleep(0.02)
        for path in files:
            path.unlink(missing_ok=True)

    def _orphans(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if _is_postgres(process) and Path(process.cwd()) == self.folder:
                    yield process


def _is_postgres(process: psutil.Process) -> bool:
    return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
