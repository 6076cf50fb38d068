"""Child processes of the command line: kept running, stopped together, none left behind."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from core.cli.console import say
from core.errors import ResourceError

PR_SET_PDEATHSIG = 1
QUICK_DEATH_SECONDS = 20.0  # a process that lived longer than this had started well
MAX_QUICK_DEATHS = 5
MAX_PAUSE_SECONDS = 5.0
MAX_LOG_BYTES = 8 * 2**20
STOP_SECONDS = 20.0


class Child:
    """One process that has to run, with its output in a file.

    Args:
        name: what it is called in messages.
        command: how it is started.
        environment: all of its environment.
        log: where its output goes; None means to the terminal.
    """

    def __init__(
        self, *, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path | None
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._next_start = 0.0
        self._quick_deaths = 0

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def step(self) -> None:
        """Start it if it does not run and its pause is over.

        Raises:
            ResourceError: it has died quickly too often.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._process = None
            self._note_death(code, now)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it has ended; after the deadline kill it with all of its descendants."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill_tree(self._process.pid)
            self._process.wait()
        self._process = None

    def last_words(self, lines: int = 2) -> str:
        """The end of its output."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, maxlen=lines)).strip()

    def _start(self) -> None:
        self._started = time.monotonic()
        with contextlib.ExitStack() as stack:
            output = None if self.log is None else stack.enter_context(_open_log(self.log))
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
                preexec_fn=_tie_to(os.getpid()) if sys.platform == "linux" else None,
            )

    def _note_death(self, code: int, now: float) -> None:
        quick = now - self._started < QUICK_DEATH_SECONDS
        self._quick_deaths = self._quick_deaths + 1 if quick else 1
        if self._quick_deaths >= MAX_QUICK_DEATHS:
            where = "" if self.log is None else f"Its log: {self.log}"
            raise ResourceError(
                f"The {self.name} process ended {MAX_QUICK_DEATHS} times in a row ({_why(code)}).",
                hint=f"{self.last_words()}\n{where}".strip(),
            )
        say(f"The {self.name} process ended ({_why(code)}); starting it again.", style="yellow")
        self._next_start = now + min(MAX_PAUSE_SECONDS, 0.2 * 2 ** (self._quick_deaths - 1))


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family[:-1], timeout=2)


def stop_all(children: Sequence[Child], *, seconds: float = STOP_SECONDS) -> None:
    """Stop processes together; Ctrl-C meanwhile kills what is left at once."""
    deadline = time.monotonic() + seconds
    for child in children:
        child.ask_to_stop()
    for child in children:
        try:
            child.wait(deadline)
        except KeyboardInterrupt:
            deadline = 0.0
            child.wait(deadline)


def _open_log(path: Path) -> IO[bytes]:
    """The log to append to; a large one becomes ``.old`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".old.log"))
    return path.open("ab")


def _tie_to(parent: int) -> Callable[[], None]:
    """To run in the child before its program: it is told to stop when its parent is killed."""
    libc = ctypes.CDLL(None)

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was killed a moment ago
            os._exit(1)

    return tie


def _why(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
