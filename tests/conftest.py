"""Fixtures of every test: one real PostgreSQL a run, made by the real migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.db.migrate import migrate
from core.db.session import SessionScope, make_engine
from core.db.session import session_scope as make_scope
from tests.support.database import empty, reachable_folder, rolled_back, start_test_database

# A run of the tests tries the same examples every time, so that its verdict is about the code;
# `make fuzz` tries new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None, print_blob=True)
settings.load_profile("same")


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """A temporary folder for a database of the test's own, where any account can reach it."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """Address of a migrated, empty database, shared by the whole run."""
    with reachable_folder() as folder, start_test_database(folder) as database:
        migrate(database.url)
        yield database.url


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to it."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session whose work is rolled back after the test."""
    with rolled_back(engine) as session:
        yield session


@pytest.fixture
def session_scope(engine: Engine) -> Iterator[SessionScope]:
    """Transactions that really commit; every table is emptied after the test."""
    yield make_scope(engine)
    empty(engine)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: Playwright's event loop stays on, and no other can run beside it."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
