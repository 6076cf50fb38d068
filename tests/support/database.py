"""A real PostgreSQL for tests, and ways to leave it as it was."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core.db.embedded import EmbeddedDatabase, start_database

# Only speed: a crash of the machine would lose a test's rows, a crash of the server does not.
FAST = {"fsync": "off", "full_page_writes": "off"}
KEPT = {"alembic_version"}


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder outside of pytest's own.

    Each start of pytest closes its folder to other accounts, so that a PostgreSQL which runs under
    an account of its own (beside root) would lose its data under its feet.
    """
    with tempfile.TemporaryDirectory(prefix="sparsight-test-") as folder:
        yield Path(folder)


def start_test_database(folder: Path) -> EmbeddedDatabase:
    """A server that does not wait for the disk."""
    return start_database(folder, settings=FAST)


@contextmanager
def rolled_back(engine: Engine) -> Iterator[Session]:
    """A session whose commits are savepoints; everything is undone at the end."""
    with engine.connect() as connection:
        transaction = connection.begin()
        with Session(
            connection, join_transaction_mode="create_savepoint", expire_on_commit=False
        ) as session:
            yield session
        transaction.rollback()


def empty(engine: Engine) -> None:
    """Remove every row of every table, the job engine's too, and begin numbering anew."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    with engine.begin() as connection:
        tables = [name for name in connection.execute(text(query)).scalars() if name not in KEPT]
        if tables:
            names = ", ".join(f'"{name}"' for name in tables)
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
