"""The web process: its way in, its words when it cannot start, and how it ends."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.main import listen
from core.db.session import session_scope
from core.domain.harvest import HarvestSpec
from core.domain.preset import load_preset
from core.errors import PortTaken
from core.jobs import control
from tests.support.database import empty, start_test_database

ROOT = Path(__file__).parents[2]


def start(url: str, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A web process over a database, its words caught."""
    env = os.environ | {"SPARSIGHT_DATABASE_URL": url, "SPARSIGHT_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "app.main", *arguments]
    return subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    )


def port_of(process: "subprocess.Popen[str]") -> int:
    """The port that a started process says it listens on; its log up to the start is read."""
    assert process.stderr is not None
    port = None
    for line in process.stderr:
        found = re.search(r"Listening on http://127\.0\.0\.1:([0-9]+)", line)
        port = int(found.group(1)) if found else port
        if "startup complete" in line:
            break
    assert port is not None
    return port


@pytest.fixture
def job_id(engine):
    """A job that stays queued, since there is no worker."""
    with session_scope(engine)() as session:
        spec: HarvestSpec = load_preset("demo")
        job_id = control.submit(session, spec)
    yield job_id
    empty(engine)


def test_a_taken_port_is_told_in_words(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = start("postgresql://nowhere.invalid/x", tmp_path, "--port", port)
        _, words = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"Port {port} of 127.0.0.1 is taken by another program." in words
    assert "Traceback" not in words


def test_an_address_of_another_machine_is_told_in_words():
    with pytest.raises(PortTaken, match=r"Cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


def test_a_database_of_another_version_is_told_in_words(tmp_path):
    with start_test_database(tmp_path / "postgres") as database:
        process = start(database.url, tmp_path, "--port", "0")
        _, words = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "sparsight migrate" in words
    assert "Traceback" not in words


def test_an_open_stream_does_not_hold_the_server_up(database_url, tmp_path, job_id):
    process = start(database_url, tmp_path, "--port", "0")
    connection = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=10)
    try:
        connection.request("GET", f"/api/v1/jobs/{job_id}/events/stream")
        answer = connection.getresponse()
        assert answer.read(12) == b"event: state"
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answer.read()  # the stream is closed in order, not cut
        answer.close()
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - asked < 2.5, "shorter than the grace for stuck requests"
    finally:
        connection.close()
        process.kill()
        process.communicate()


def test_a_stream_goes_on_where_its_reader_left(client, scope):
    with scope() as session:
        job_id = control.submit(session, load_preset("demo"))
        control.request_cancel(session, job_id)
    whole = client.get(f"/api/v1/jobs/{job_id}/events/stream").text
    assert re.findall(r"^id: (.*)$", whole, re.MULTILINE) == ["1", "2"]
    assert whole.rstrip().endswith("event: end\ndata: {}")
    again = client.get(f"/api/v1/jobs/{job_id}/events/stream", headers={"last-event-id": "1"}).text
    assert re.findall(r"^id: (.*)$", again, re.MULTILINE) == ["2"]
