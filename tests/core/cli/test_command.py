"""The ``sparsight`` command as a person runs it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from urllib.request import urlopen

import psutil
import pytest

from core.cli.follow import amount
from core.cli.main import main
from core.cli.stack import is_up
from core.domain.job import Progress
from tests.support.jobs import ROOT, wait_for

COMMAND = [sys.executable, "-m", "core.cli.main"]


def environment(data_dir) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SPARSIGHT_")}
    return {**kept, "SPARSIGHT_DATA_DIR": str(data_dir), "COLUMNS": "200", "NO_COLOR": "1"}


def sparsight(data_dir, *words, **more):
    """Run the command to its end."""
    return subprocess.run(  # noqa: S603
        [*COMMAND, *words],
        cwd=ROOT,
        env={**environment(data_dir), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(data_dir, *words):
    """The command in the background, with its output in a file; stopped at the end."""
    output = data_dir / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(  # noqa: S603
            [*COMMAND, *words], cwd=ROOT, env=environment(data_dir), stdout=file, stderr=file
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(90)


def processes_on(folder) -> list[str]:
    """Command lines of living processes that name a folder, or were told of it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("SPARSIGHT_DATA_DIR", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in this process; gives exit code and all that was said."""

    def run(*words, **more):
        monkeypatch.setenv("SPARSIGHT_DATA_DIR", str(tmp_path))
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["sparsight", *words])
        code = main()
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize(
    "command", ["", "up", "demo", "harvest", "web", "worker", "migrate", "jobs", "jobs list"]
)
def test_every_command_has_help(call, command):
    code, said = call(*command.split(), "--help")
    assert code == 0
    assert "Usage: sparsight" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["harvest", "--preset", "nonsense"], "No preset 'nonsense'"),
        (["harvest", "--model", "gpt2"], "--sae, --corpus are missing"),
        (["harvest", "--model", "gpt2", "--sae", "gone", "--corpus", "demo"], "no SAE 'gone'"),
        (["harvest", "--preset", "demo", "--corpus", "gone.txt"], "no file or folder gone.txt"),
        (["harvest", "--preset", "demo", "--seed", "x"], "--seed"),
        (["jobs", "resume", "7"], "no job 7"),
        (["jobs", "list", "--data-dir", "/etc/passwd"], "/etc/passwd"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistake_is_told_in_words(call, words, said):
    code, all_said = call(*words)
    assert code == 2
    assert said in all_said


def test_a_wrong_setting_is_named(call):
    code, said = call("up", SPARSIGHT_PORT="many")
    assert code == 2
    assert "SPARSIGHT_PORT" in said


def test_a_database_that_does_not_answer_is_told(call):
    code, said = call("migrate", SPARSIGHT_DATABASE_URL="postgresql://127.0.0.1:9/none")
    assert code == 2
    assert "127.0.0.1:9" in said
    assert "Connection refused" in said


def test_a_mistake_of_another_process_has_no_traceback(tmp_path):
    run = sparsight(tmp_path, "worker", "--queues", "cpu")
    assert run.returncode == 2
    assert "names no queues" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_taken_port_is_told_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = sparsight(tmp_path, "up", "--port", port)
    assert run.returncode == 2
    assert f"Port {port}" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_up_serves_restarts_what_dies_and_leaves_nothing(tmp_path):
    port = free_port()
    with running(tmp_path, "up", "--port", str(port)) as (process, output):
        wait_for(lambda: "Sparsight is at" in output.read_text(), seconds=120, what="the address")
        health = f"http://127.0.0.1:{port}/api/v1/health"
        assert urlopen(health, timeout=5).status == 200
        assert is_up(tmp_path) is not None
        second = sparsight(tmp_path, "up", "--port", str(free_port()))
        assert second.returncode == 2
        assert "already running" in second.stderr
        workers = [
            p for p in psutil.Process(process.pid).children() if "worker.main" in p.cmdline()
        ]
        workers[0].kill()
        wait_for(lambda: "worker process ended" in output.read_text(), what="the restart")
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0
    assert "Traceback" not in output.read_text()
    assert processes_on(tmp_path) == []
    assert is_up(tmp_path) is None


def test_progress_is_told_in_words_of_the_unit():
    progress = Progress(
        done=5, total=None, unit="tokens", rate=None, remaining_seconds=None, phase="reading"
    )
    assert amount(progress) == "5 tokens"
