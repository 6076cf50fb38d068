"""A runner whose handler does what a harvest's settings say, without any model.

The settings are read as knobs: ``model_id`` chooses the behaviour, ``n_top`` is the number of items
and ``tile_contexts`` the milliseconds that each takes.
"""

import atexit
import os
import signal
import subprocess
import time
from pathlib import Path

from core.errors import Invalid
from worker.runner import leave, main


def act(spec, job):
    """Do the items that are not done yet; every item done leaves a line in ``done.txt``."""
    done = job.finished_items()
    before_items(spec.model_id, job)
    for number in range(spec.n_top):
        job.progress(done=len(done), total=spec.n_top, unit="items", phase="acting")
        job.check()
        if f"{number:03}" in done:
            continue
        time.sleep(spec.tile_contexts / 1000)
        in_item(spec.model_id, number, job)
        with (job.work_dir / "done.txt").open("a") as file:
            file.write(f"{number:03}\n")
        job.finish_item(f"{number:03}", {"square": number**2})
        done = {**done, f"{number:03}": None}
        job.log(f"item {number} done")
    job.progress(done=len(done), total=spec.n_top, unit="items", phase="acting")
    return {"items": len(job.finished_items())}


def before_items(behaviour, job):
    """What goes wrong, or on, before the first item."""
    (job.work_dir / "pid.txt").write_text(str(os.getpid()))
    match behaviour:
        case "invalid":
            raise Invalid("The width is wrong.", hint="Take another SAE.")
        case "fault":
            raise ZeroDivisionError
        case "slow-farewell":
            atexit.register(time.sleep, 30)
        case "deaf":
            time.sleep(60)
        case "children":
            child = subprocess.Popen(["sleep", "300"], start_new_session=True)  # noqa: S607
            (job.work_dir / "child.txt").write_text(str(child.pid))


def in_item(behaviour, number, job):
    """What goes wrong in an item."""
    if behaviour == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    marker = Path(job.work_dir / "crashed.txt")
    if behaviour == "crash-once" and number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    leave(main(act))
