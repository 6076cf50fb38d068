"""The runner's tie to its worker: a byte on stdin while the worker's claim holds.

End of file or silence means that the worker is gone, frozen or wants the job stopped. The job is
then asked to stop; what has not ended after the grace is killed, the runner's descendants first,
each of them, since a launcher gives its children sessions of their own.
"""

import ctypes
import logging
import os
import select
import signal
import sys
import threading
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36
EXIT_KILLED = 79  # the runner ended itself by force after the grace

logger = logging.getLogger(__name__)


def become_subreaper() -> None:
    """Inherit orphaned descendants, so that none escapes; Linux only, a no-op elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[psutil.Process]:
    """Every living process below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_descendants(pid: int) -> None:
    """Kill everything below a process, and whatever is born meanwhile."""
    while family := [p for p in descendants(pid) if p.status() != psutil.STATUS_ZOMBIE]:
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=1)


class Lifeline:
    """Watches stdin in a thread of its own.

    Args:
        fd: where the worker's bytes come.
        stop: set when the job has to stop.
        silence: seconds without a byte that count as the worker's death.
        grace: seconds between asking and killing.
    """

    def __init__(self, *, fd: int, stop: threading.Event, silence: float, grace: float) -> None:
        self._fd = fd
        self._stop = stop
        self._silence = silence
        self._grace = grace
        self._done = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def let_go(self) -> None:
        """The job has ended by itself: kill nothing any more."""
        self._done.set()

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd], [], [], self._silence)
            if not ready or not os.read(self._fd, 4096):
                break
        logger.warning("The worker asks to stop or is gone.")
        self._stop.set()
        for process in descendants(os.getpid()):
            process.send_signal(signal.SIGTERM)
        if self._done.wait(self._grace):
            return
        kill_descendants(os.getpid())
        time.sleep(0.1)  # a job that only waited for a child may still say goodbye
        os._exit(EXIT_KILLED)
