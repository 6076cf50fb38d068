"""The processes of one machine, brought up in order: database, tables, web, worker."""

import fcntl
import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from core.cli.children import Child, stop_all
from core.cli.console import say
from core.db.embedded import EmbeddedDatabase, database, start_database
from core.db.migrate import migrate
from core.errors import Cancelled, Conflict, DiskFull, PortTaken, ResourceError
from core.settings import PREFIX, Settings

ROOM_NEEDED_BYTES = 500 * 2**20
STEP_SECONDS = 0.1
DATABASE_LOOK_SECONDS = 2.0
WEB_START_SECONDS = 60.0


class Stack:
    """Running processes; ``step`` keeps them so and is to be called often.

    Attributes:
        url: address of the database.
    """

    def __init__(
        self, *, url: str, embedded: EmbeddedDatabase | None, children: tuple[Child, ...]
    ) -> None:
        self.url = url
        self.children = children
        self._embedded = embedded
        self._looked = time.monotonic()

    def step(self) -> None:
        """Start again what has died; waits a moment, so that a loop of steps costs nothing."""
        now = time.monotonic()
        if self._embedded is not None and now - self._looked > DATABASE_LOOK_SECONDS:
            self._looked = now
            if self._embedded.pid is None:
                say("The database ended; starting it again.", style="yellow")
                self._embedded.ensure_running()
        for child in self.children:
            child.step()
        time.sleep(STEP_SECONDS)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Step until something holds.

        Raises:
            ResourceError: it does not hold in time.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.step()
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"{what} did not answer within {seconds:.0f} seconds.",
                    hint="\n".join(child.last_words() for child in self.children),
                )


@contextmanager
def bring_up(settings: Settings, *, web: bool, verbose: bool) -> Iterator[Stack]:
    """The stack of this machine; everything is stopped at the end, the database last.

    Raises:
        PortTaken, DiskFull, Conflict, DatabaseUnavailable: before anything is started.
    """
    if web:
        check_port(settings.host, settings.port)
    check_room(settings.data_dir)
    with ExitStack() as stack:
        stack.enter_context(_alone(settings.data_dir))
        embedded = None
        if settings.database_url is None:
            embedded = stack.enter_context(start_database(settings.data_dir))
            url = embedded.url
        else:
            url = stack.enter_context(database(settings.database_url, settings.data_dir))
        migrate(url)
        children = _children(settings, url, web=web, verbose=verbose)
        stack.callback(stop_all, children)
        running = Stack(url=url, embedded=embedded, children=children)
        running.step()
        yield running


def check_port(host: str, port: int) -> None:
    """Make sure that nobody listens there.

    Raises:
        PortTaken: somebody does, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise PortTaken(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                hint=f"Stop the program that listens there, or choose another with --port "
                f"(or {PREFIX}PORT).",
            ) from error


def check_room(folder: Path) -> None:
    """Make sure that the disk has room to work.

    Raises:
        DiskFull: it has not.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < ROOM_NEEDED_BYTES:
        raise DiskFull(
            f"Only {free // 2**20} MB are free in {folder.absolute()}.",
            hint=f"Free {ROOM_NEEDED_BYTES // 2**20} MB, or set {PREFIX}DATA_DIR to another disk.",
        )


def is_up(data_dir: Path) -> str | None:
    """What runs on a data folder now, in words; None if nothing does."""
    path = _lock_file(data_dir)
    if not path.exists():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "another process"
    return None


def page_address(settings: Settings) -> str:
    """What to open in a browser."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{host}:{settings.port}"


def answers(address: str) -> bool:
    """Whether the web process serves requests."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/health", timeout=2):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the block by raising Cancelled."""

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)
        raise Cancelled("Told to stop.")

    wanted = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in wanted]
    # A shell starts background commands with SIGINT ignored; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


def _children(settings: Settings, url: str, *, web: bool, verbose: bool) -> tuple[Child, ...]:
    environment = {**os.environ, **_environment(settings, url)}  # noqa: TID251 - a child's
    logs = None if verbose else settings.data_dir.absolute() / "logs"
    commands = {
        "worker": [sys.executable, "-m", "worker.main", "--queues", "gpu,llm,ctl"],
        "web": [
            *(sys.executable, "-m", "app.main"),
            *("--host", settings.host, "--port", str(settings.port)),
        ],
    }
    wanted = ("web", "worker") if web else ("worker",)
    return tuple(
        Child(
            name=name,
            command=commands[name],
            environment=environment,
            log=None if logs is None else logs / f"{name}.log",
        )
        for name in wanted
    )


def _environment(settings: Settings, url: str) -> dict[str, str]:
    """Settings as a child reads them; what the command line changed, included."""
    values = {
        "database_url": url,
        "data_dir": settings.data_dir.absolute(),
        "cache_dir": settings.cache_dir.absolute(),
        "log_level": settings.log_level,
        "log_json": settings.log_json,
    }
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "running.lock"


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Only one stack on a data folder."""
    path = _lock_file(data_dir)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise ResourceError(
            f"The data folder {data_dir.absolute()} cannot be written: {error.strerror}.",
            hint=f"Set {PREFIX}DATA_DIR to a folder that can be written.",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            raise Conflict(
                f"Sparsight is already running on {data_dir.absolute()} ({who}).",
                hint=f"Use that one, stop it, or set {PREFIX}DATA_DIR to another folder.",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
        file.truncate(0)
