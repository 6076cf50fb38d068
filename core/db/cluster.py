"""A private PostgreSQL data folder: made, started and stopped with the binaries of a wheel."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from core.db.postmaster import Postmaster
from core.db.system_user import SystemUser, database_user, hand_over
from core.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

SUPERUSER = "postgres"
PORT = 5432  # only names the socket; nothing listens on the network
ROOM_NEEDED_BYTES = 200 * 2**20
START_SECONDS = 300  # replaying the log after a crash may take minutes
_SOCKET_LIMIT_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._-]*")
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}  # no PGPORT, PGDATA … of the user
_SYNCFS = sys.platform == "linux"  # one call for a whole file system, not one a file
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "max_wal_size": "4GB",  # a harvest is loaded in bulk
    "log_checkpoints": "off",
    **({"recovery_init_sync_method": "syncfs"} if _SYNCFS else {}),
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One data folder.

    Attributes:
        folder: what PostgreSQL calls its data directory.
        binaries: folder with postgres, initdb and pg_ctl.
        settings: server settings beside the product's own.
    """

    folder: Path
    binaries: Path
    settings: Mapping[str, str]

    @property
    def postmaster(self) -> Postmaster:
        """Its processes."""
        return Postmaster(self.folder)

    @property
    def log_file(self) -> Path:
        """Where the server writes what troubles it."""
        return self.folder / "server.log"

    @property
    def socket_folder(self) -> Path:
        """Folder of the server's socket: the data folder, or a short one where that is too long."""
        socket = f"{self.folder}/.s.PGSQL.{PORT}"
        if len(os.fsencode(socket)) <= _SOCKET_LIMIT_BYTES and _PLAIN_PATH.fullmatch(socket):
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sparsight-{os.geteuid()}-{name}"

    def url(self, database: str) -> str:
        """Address of one of its databases."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.socket_folder}&port={PORT}"

    def initialise(self) -> None:
        """Make the data folder if there is none; a crash half-way leaves none."""
        if (self.folder / "PG_VERSION").exists():
            self._check_version()
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DatabaseUnavailable(
                f"{self.folder} is not a PostgreSQL data folder.",
                hint="Move it away, or name another data folder.",
            )
        _check_room(self.folder.parent)
        for leftover in self.folder.parent.glob(f".{self.folder.name}-new-*"):
            shutil.rmtree(leftover)
        new = self.folder.with_name(f".{self.folder.name}-new-{os.getpid()}")
        new.mkdir(mode=0o700)
        hand_over(new, database_user())
        options = ["--auth=trust", "--encoding=UTF8", "-U", SUPERUSER, "-D", str(new)]
        sync = ["--sync-method=syncfs"] if _SYNCFS else []
        locale = ["--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
        self._run("initdb", [*options, *locale, *sync])
        new.rename(self.folder)

    def start(self) -> None:
        """Bring the server up unless it answers already; returns when it accepts connections."""
        if self.answers() or self._comes_up():
            return
        user = database_user()
        if user is not None:
            user.let_run(self.binaries)
        self._make_socket_folder(user)
        values = {**_SETTINGS, **self.settings, "unix_socket_directories": str(self.socket_folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in values.items())
        timing = ["-w", "-t", str(START_SECONDS)]
        files = ["-D", str(self.folder), "-l", str(self.log_file)]
        self._run("pg_ctl", [*timing, *files, "-o", options, "start"])

    def stop(self) -> None:
        """End the server: its clients are cut off, finished transactions are safe."""
        if self.postmaster.process() is None:
            return
        try:
            self._run("pg_ctl", ["-w", "-t", "60", "-D", str(self.folder), "-m", "fast", "stop"])
        except DatabaseUnavailable:
            log.warning("PostgreSQL in %s did not stop by itself; ending it.", self.folder)
            with contextlib.suppress(DatabaseUnavailable):
                self._run("pg_ctl", ["-w", "-D", str(self.folder), "-m", "immediate", "stop"])

    def answers(self) -> bool:
        """Whether this folder's server accepts connections."""
        if not self.postmaster.pid_file.exists():
            return False
        try:
            with psycopg.connect(self.url(SUPERUSER), connect_timeout=5) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.Error:
            return False
        return row is not None and Path(row[0]).resolve() == self.folder.resolve()

    def _comes_up(self) -> bool:
        """Wait for a server that is on its way; clear away what a crash left."""
        deadline = time.monotonic() + START_SECONDS
        while self.postmaster.process() is not None and time.monotonic() < deadline:
            if self.answers():
                return True
            if not self._has_socket() and not self.postmaster.is_young():
                self.stop()  # its socket was swept away: nobody can reach it any more
            time.sleep(0.05)
        self.postmaster.clear_away(self.socket_folder / f".s.PGSQL.{PORT}.lock")
        return False

    def _has_socket(self) -> bool:
        return (self.socket_folder / f".s.PGSQL.{PORT}").exists()

    def _make_socket_folder(self, user: SystemUser | None) -> None:
        if self.socket_folder == self.folder:
            return
        self.socket_folder.mkdir(mode=0o700, exist_ok=True)
        hand_over(self.socket_folder, user)

    def _check_version(self) -> None:
        found = (self.folder / "PG_VERSION").read_text().strip()
        wanted = self._run("postgres", ["--version"], check=False).rsplit(" ", 1)[-1].split(".")[0]
        if wanted.strip() and found != wanted.strip():
            raise DatabaseUnavailable(
                f"{self.folder} was made by PostgreSQL {found}; this one is {wanted.strip()}.",
                hint="Dump it with the old version, move the folder away, and load the dump.",
            )

    def _run(self, program: str, arguments: list[str], *, check: bool = True) -> str:
        user = database_user()
        with tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="replace"
        ) as output:  # a pipe would stay open in the server
            run = subprocess.run(  # noqa: S603 - the wheel's own binary
                [str(self.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                check=False,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
            output.seek(0)
            text = output.read()
        if check and run.returncode != 0:
            raise _explain(program, text, _tail(self.log_file))
        return text


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM_NEEDED_BYTES:
        raise DatabaseUnavailable(
            f"{folder} has {free // 2**20} MB free; PostgreSQL needs {ROOM_NEEDED_BYTES // 2**20}.",
            hint="Free some disk, or set SPARSIGHT_DATA_DIR to a folder with room.",
        )


def _tail(path: Path, *, lines: int = 8) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _explain(program: str, output: str, server_log: str) -> DatabaseUnavailable:
    """What a failed start means, by the words of PostgreSQL."""
    said = f"{output}\n{server_log}"
    last = (server_log or output).strip().splitlines()
    hint = "The folder may be damaged. Restore it from a copy, or move it away to begin anew."
    if "No space left" in said:
        hint = "The disk is full. Free some space and start again."
    elif "Permission denied" in said or "wrong ownership" in said:
        hint = "Give the data folder to the user that runs Sparsight."
    elif "could not map anonymous shared memory" in said or "Cannot allocate memory" in said:
        hint = "Memory is short. End other programs and start again."
    reason = last[-1] if last else "no reason given"
    fatal = [line for line in last if "FATAL" in line or "PANIC" in line]
    return DatabaseUnavailable(
        f"PostgreSQL did not start ({program}): {fatal[-1] if fatal else reason}", hint=hint
    )
