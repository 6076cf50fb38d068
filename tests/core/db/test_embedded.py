"""The private database starts, is shared, survives crashes and says why it cannot start."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from core.db.embedded import check_server, database, start_database
from core.errors import DatabaseUnavailable, Invalid
from tests.support.database import start_test_database

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from core.db.embedded import start_database
database = start_database(Path(sys.argv[1]), settings={"fsync": "off"})
print(database.url, flush=True)
time.sleep(600)
"""


def rows(url):
    """What is in the test table."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT word FROM note").fetchall()


def write(url):
    """Make the test table, with one word in it."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS word")


@pytest.fixture
def folder(reachable_path):
    """A data folder; nothing of it runs on after the test."""
    yield reachable_path / "data"
    if (reachable_path / "data" / "postgres" / "PG_VERSION").exists():
        start_test_database(reachable_path / "data").stop()


def test_what_was_written_is_there_after_a_stop(folder):
    with start_test_database(folder) as first:
        write(first.url)
        assert first.pid is not None
    assert first.pid is None
    began = time.monotonic()
    with start_test_database(folder) as second:
        assert time.monotonic() - began < 5
        assert second.url == first.url
        assert rows(second.url) == [("kept",)]


def test_the_server_runs_until_the_last_holder_lets_go(folder):
    first, second = start_test_database(folder), start_test_database(folder)
    assert first.pid == second.pid
    first.stop()
    first.stop()
    assert second.pid is not None
    second.stop()
    assert second.pid is None


def test_many_that_start_at_once_share_one_server(folder):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(start_test_database(folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.pid for one in found}) == 1
    for one in found:
        one.stop()
    assert found[0].pid is None


def test_a_killed_holder_leaves_no_hold_behind(folder):
    holder = hold(folder)
    url = holder.stdout.readline().strip()
    write(url)
    holder.kill()
    holder.communicate()
    with start_test_database(folder) as heir:
        assert rows(heir.url) == [("kept",)]
    assert heir.pid is None


def test_after_a_kill_of_everything_the_data_is_there(folder):
    holder = hold(folder)
    url = holder.stdout.readline().strip()
    write(url)
    holder.kill()
    holder.communicate()
    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    with start_test_database(folder) as heir:
        assert rows(heir.url) == [("kept",)]
        assert heir.pid != pid


def test_a_pid_file_that_names_another_process_does_not_stop_the_start(folder):
    with start_test_database(folder) as first:
        write(first.url)
    pid_file = folder / "postgres" / "postmaster.pid"
    pid_file.write_text(
        f"{os.getpid()}\n{folder}/postgres\n1\n5432\n{folder}/postgres\n\n1 1\nready"
    )
    with start_test_database(folder) as second:
        assert rows(second.url) == [("kept",)]


def test_a_server_that_died_is_started_again_at_the_same_address(folder):
    with start_test_database(folder) as held:
        write(held.url)
        assert held.pid is not None
        os.kill(held.pid, signal.SIGKILL)
        held.ensure_running()
        assert rows(held.url) == [("kept",)]
        held.ensure_running()


def test_a_long_or_strange_path_has_its_socket_elsewhere(reachable_path):
    folder = reachable_path / ("long " * 20) / "ü,'%"
    with start_test_database(folder) as held:
        write(held.url)
        assert rows(held.url) == [("kept",)]
        socket = Path(held.url.split("host=")[1].split("&")[0])
        assert not socket.is_relative_to(reachable_path)
        assert socket.stat().st_mode & 0o077 == 0
    shutil.rmtree(socket)


def test_a_start_that_was_cut_off_in_the_middle_is_begun_anew(folder):
    half = folder / ".postgres-new-1"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    with start_test_database(folder) as held:
        write(held.url)
    assert not half.exists()


def test_a_damaged_folder_is_named(folder):
    with start_test_database(folder):
        pass
    shutil.rmtree(folder / "postgres" / "global")
    with pytest.raises(DatabaseUnavailable, match="did not start") as caught:
        start_test_database(folder)
    assert "damaged" in caught.value.hint
    shutil.rmtree(folder / "postgres")


def test_a_folder_of_another_version_is_named(folder):
    with start_test_database(folder):
        pass
    (folder / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(DatabaseUnavailable, match="made by PostgreSQL 13"):
        start_test_database(folder)
    (folder / "postgres" / "PG_VERSION").write_text("18\n")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(DatabaseUnavailable, match="not a PostgreSQL data folder"):
        start_database(tmp_path)
    assert (tmp_path / "postgres" / "letter.txt").read_text() == "dear"


def test_a_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DatabaseUnavailable, match="cannot be used") as caught:
        start_database(tmp_path / "data")
    assert "SPARSIGHT_DATA_DIR" in caught.value.hint


def test_a_given_address_is_used_in_any_of_its_forms(database_url, tmp_path):
    for scheme in ("postgres://", "postgresql+psycopg://", "postgresql://"):
        given = database_url.replace("postgresql://", scheme)
        with database(given, tmp_path) as url:
            assert url == database_url
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_the_private_one_is_used(folder):
    with database(None, folder) as url:
        write(url)
        assert rows(url) == [("kept",)]


def test_an_address_where_nobody_answers_is_named_without_its_password():
    with pytest.raises(DatabaseUnavailable, match="No database at") as caught:
        check_server("postgres://ann:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(caught.value)
    with pytest.raises(Invalid, match="not an address of PostgreSQL"):
        check_server("mysql://db/x")


def hold(folder):
    """Another process that holds the database."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
