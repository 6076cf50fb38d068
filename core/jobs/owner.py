"""Which process holds a claim, and whether it is certainly gone.

An owner is written ``place:pid:start``. The place names one table of process ids: the machine's
boot and the process-id namespace (a container has its own). The start tells a process from a later
one that was given the same number.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One process on one machine."""

    place: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.place}:{self.pid}:{self.start}"

    @classmethod
    def me(cls) -> "Owner":
        """The calling process."""
        return cls(place=_place(), pid=os.getpid(), start=_start(os.getpid()) or 0)

    @classmethod
    def parse(cls, text: str) -> "Owner":
        """An owner from its text.

        >>> Owner.parse("box:17:400").pid
        17
        """
        place, pid, start = text.rsplit(":", 2)
        return cls(place=place, pid=int(pid), start=int(start))

    def is_gone(self) -> bool:
        """Whether the process ran here and has ended; False where that cannot be known."""
        return self.place == _place() and _start(self.pid) != self.start


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}".replace(":", "")
    except OSError:
        return f"{socket.gethostname()}/{int(psutil.boot_time())}".replace(":", "")


def _start(pid: int) -> int | None:
    """When a living process started, in its machine's own count; None if there is none."""
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(line.rsplit(")", 1)[1].split()[19])
    except psutil.NoSuchProcess:
        return None
    except OSError:
        return _start_by_clock(pid)


def _start_by_clock(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
