"""Several processes for one run: torchrun as a child, stopped at a step's boundary."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psutil
from accelerate import Accelerator

GRACE_SECONDS = 100.0  # from SIGTERM to SIGKILL: a step and its checkpoint
POLL_SECONDS = 0.5


def make_accelerator(*, device: str) -> Accelerator:
    """The processes of this run, as torchrun has started them; one without it."""
    return Accelerator(cpu=device == "cpu")


class StopFlag:
    """Remembers that this process was asked to stop by a signal."""

    def __init__(self) -> None:
        self.raised = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._raise)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        self.raised = True


def run_processes(
    arguments: list[str], *, processes: int, log: Path, each_poll: Callable[[], bool]
) -> int:
    """Run ``python -m worker.align`` under torchrun until it ends; its exit code.

    Args:
        arguments: of the module.
        processes: ranks on this machine.
        log: file for what the ranks print.
        each_poll: called twice a second; True asks the ranks to stop.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "--max-restarts", "0"),
        *("-m", "worker.align", *arguments),
    ]
    with log.open("ab") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)  # noqa: S603 - our own module
        try:
            return _watch(child, each_poll)
        finally:
            _end(child)


def _watch(child: subprocess.Popen[bytes], each_poll: Callable[[], bool]) -> int:
    asked_at = None
    while child.poll() is None:
        time.sleep(POLL_SECONDS)
        if each_poll() and asked_at is None:
            asked_at = time.monotonic()
            for process in _descendants(child):
                process.terminate()
        if asked_at is not None and time.monotonic() - asked_at > GRACE_SECONDS:
            break
    return child.returncode if child.returncode is not None else -signal.SIGKILL


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left: torchrun gives each rank a session of its own, so one by one."""
    left = _descendants(child)
    if child.poll() is None:
        child.kill()
    for process in left:
        process.kill()
    child.wait()


def _descendants(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The ranks; torchrun itself ends when they have."""
    try:
        return psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
