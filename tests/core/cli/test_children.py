"""Child processes: kept running, given up with their cause, stopped with all they started."""

import os
import signal
import sys
import time

import psutil
import pytest

from core.cli.children import Child, stop_all
from core.errors import ResourceError
from tests.support.jobs import wait_for


def child(tmp_path, code: str) -> Child:
    return Child(
        name="test",
        command=[sys.executable, "-c", code],
        environment=dict(os.environ),
        log=tmp_path / "test.log",
    )


def step_until(one: Child, condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        one.step()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_dies_is_started_again(tmp_path):
    one = child(tmp_path, "import time; time.sleep(60)")
    step_until(one, lambda: one.pid is not None)
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    step_until(one, lambda: one.pid not in {None, first})
    stop_all([one])
    assert one.pid is None


def test_a_child_that_cannot_live_is_given_up_with_its_last_words(tmp_path):
    one = child(tmp_path, "raise SystemExit('the reason')")
    with pytest.raises(ResourceError, match="the reason") as caught:
        step_until(one, lambda: False, seconds=90.0)
    assert "test.log" in caught.value.hint


def test_a_child_that_does_not_stop_is_killed_with_what_it_started(tmp_path):
    code = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
        "time.sleep(60)"
    )
    one = child(tmp_path, code)
    step_until(one, lambda: one.last_words().isdigit())
    grandchild = int(one.last_words())
    stop_all([one], seconds=0.3)
    assert one.pid is None
    wait_for(lambda: not psutil.pid_exists(grandchild), seconds=30)


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    parent_code = (
        "import os, time\n"
        "from core.cli.children import Child\n"
        "one = Child(name='x', command=['sleep', '60'], environment=dict(os.environ), log=None)\n"
        "one.step()\n"
        "print(one.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = child(tmp_path, parent_code)
    step_until(parent, lambda: parent.last_words().isdigit())
    grandchild = int(parent.last_words())
    assert parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(grandchild), seconds=30)
    stop_all([parent])
