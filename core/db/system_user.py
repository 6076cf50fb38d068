"""The account PostgreSQL runs under when Sparsight runs as root, which PostgreSQL refuses to do."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.errors import DatabaseUnavailable

NAME = "pgserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemUser:
    """An account of the machine."""

    uid: int
    gid: int

    def let_run(self, binaries: Path) -> None:
        """Open the folder of the binaries, and the way to it, for this account to read."""
        open_way(binaries)
        readable = stat.S_IROTH | stat.S_IXOTH
        if (binaries / "postgres").stat().st_mode & readable == readable:
            return
        for path in (binaries.parent, *binaries.parent.rglob("*")):
            if not path.is_symlink():
                _add(path, readable)


@cache
def database_user() -> SystemUser | None:
    """The account to run PostgreSQL under; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _create()
        entry = pwd.getpwnam(NAME)
    return SystemUser(uid=entry.pw_uid, gid=entry.pw_gid)


def hand_over(folder: Path, user: SystemUser | None) -> None:
    """Give a folder to the account, and let it reach the folder; nothing when not root."""
    if user is None:
        return
    os.chown(folder, user.uid, user.gid)
    open_way(folder)


def open_way(path: Path) -> None:
    """Let every account pass, but not list, the folders that lead to a path."""
    for folder in path.resolve().parents:
        _add(folder, stat.S_IXOTH)


def _add(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)


def _create() -> None:
    program = shutil.which("useradd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    hint = f"Create it ({NAME}), or run Sparsight as a user other than root."
    if program is None:
        raise DatabaseUnavailable(f"PostgreSQL needs an account {NAME!r}.", hint=hint)
    command = [program, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode not in {0, 9}:  # 9: somebody else made it meanwhile
        raise DatabaseUnavailable(
            f"The account {NAME!r} could not be made: {run.stderr.strip()}.", hint=hint
        )
