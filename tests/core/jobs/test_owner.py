"""Whether the process that holds a claim is gone."""

import os
import subprocess
import sys
from dataclasses import replace

from core.jobs.owner import Owner


def test_the_calling_process_is_not_gone():
    assert not Owner.parse(str(Owner.me())).is_gone()


def test_an_ended_process_of_this_machine_is_gone():
    code = "from core.jobs.owner import Owner; print(Owner.me())"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert Owner.parse(run.stdout.strip()).is_gone()


def test_a_later_process_of_the_same_number_is_another_one():
    assert replace(Owner.me(), start=1).is_gone()


def test_a_process_that_nobody_has_waited_for_is_gone():
    with subprocess.Popen(["true"]) as child:  # noqa: S607
        owner = replace(Owner.me(), pid=child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_gone()


def test_nothing_is_known_of_another_machine():
    assert not replace(Owner.me(), place="elsewhere", pid=1, start=1).is_gone()
