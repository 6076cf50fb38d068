"""Migrations make exactly the tables that the code has, however many processes run them."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from core.db.base import Base
from core.db.migrate import alembic_config, is_current, migrate
from core.db.session import make_engine
from core.db.url import sqlalchemy_url
from core.errors import DatabaseUnavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty_url(database_url):
    """Address of a database without tables; removed after the test."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    yield database_url.replace("/sparsight?", "/bare?")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE bare WITH (FORCE)")


def test_the_database_at_head_is_what_the_tables_say(database_url):
    engine = make_engine(database_url)
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda _o, name, kind, *_: (
                kind != "table" or not name.startswith("procrastinate_")
            ),
        }
        context = MigrationContext.configure(connection, opts=options)
        found = produce_migrations(context, Base.metadata)
    engine.dispose()
    assert found.upgrade_ops is not None
    assert found.upgrade_ops.is_empty(), render_python_code(found.upgrade_ops)


def test_there_is_one_newest_revision():
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    assert len(scripts.get_heads()) == 1


def test_an_empty_database_is_brought_to_head_once(empty_url):
    assert not is_current(empty_url)
    migrate(empty_url)
    assert is_current(empty_url)
    migrate(empty_url)
    assert is_current(empty_url)


def test_four_processes_migrate_at_once(empty_url):
    code = f"from core.db.migrate import migrate; migrate({empty_url!r})"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=ROOT)  # noqa: S603
        for _ in range(4)
    ]
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == 0, errors.decode()
    assert is_current(empty_url)


def test_every_step_can_be_taken_back(empty_url):
    migrate(empty_url)
    engine = create_engine(sqlalchemy_url(empty_url))
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    with engine.connect() as connection:
        query = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert connection.execute(query).scalars().all() == ["alembic_version"]
    engine.dispose()
    migrate(empty_url)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(empty_url):
    migrate(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert not is_current(empty_url)
    with pytest.raises(DatabaseUnavailable, match="newer Sparsight"):
        migrate(empty_url)


def test_a_server_that_is_gone_is_named():
    gone = "postgresql://ann:secret@127.0.0.1:1/nothing"
    for look in (migrate, is_current):
        with pytest.raises(DatabaseUnavailable, match="does not answer") as caught:
            look(gone)
        assert "secret" not in str(caught.value)


def test_packed_columns_are_stored_as_they_are(database_url):
    query = """
        SELECT attname FROM pg_attribute
        WHERE attrelid = 'feature_evidence'::regclass AND attstorage = 'e' ORDER BY attname
    """
    with psycopg.connect(database_url) as connection:
        found = [row[0] for row in connection.execute(query)]
    assert found == ["contexts", "random", "summary"]
