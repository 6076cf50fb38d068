"""How often the system has killed a process because memory ran out."""

from pathlib import Path

_COUNTERS = ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/proc/vmstat"), "oom_kill"))


def out_of_memory_kills() -> int:
    """The largest of the system's counters; 0 where it keeps none."""
    return max(_count(path, name) for path, name in _COUNTERS)


def _count(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
