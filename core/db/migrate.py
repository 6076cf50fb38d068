"""The database brought to this version's tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError

from core.db.session import make_engine
from core.db.url import hide_password
from core.errors import DatabaseUnavailable

_MIGRATIONS = Path(__file__).parents[2] / "migrations"
_LOCK = 7_307_199_761  # any number, the same in every process


def migrate(url: str) -> None:
    """Bring the database to the newest version; several processes may do it at once.

    All steps run in one transaction under an advisory lock: another process waits, and a failure
    leaves the database as it was.

    Raises:
        DatabaseUnavailable: no answer, or the database was made by a newer Sparsight.
    """
    engine = make_engine(url, pool_size=1)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            command.upgrade(alembic_config(connection), "head")
    except OperationalError as error:
        raise DatabaseUnavailable(
            f"The database does not answer: {hide_password(str(error.orig).strip())}",
            hint="Check that it runs; then try again.",
        ) from error
    except CommandError as error:
        raise DatabaseUnavailable(
            f"The database cannot be brought to this version: {error}.",
            hint="It was probably made by a newer Sparsight. Install that version.",
        ) from error
    finally:
        engine.dispose()


def is_current(url: str) -> bool:
    """Whether the database has exactly this version's tables."""
    engine = make_engine(url, pool_size=1)
    heads = set(ScriptDirectory.from_config(alembic_config()).get_heads())
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            rows = connection.execute(text("SELECT version_num FROM alembic_version"))
            return set(rows.scalars()) == heads
    except OperationalError as error:
        raise DatabaseUnavailable(
            f"The database does not answer: {hide_password(str(error.orig).strip())}",
            hint="Check that it runs; then try again.",
        ) from error
    finally:
        engine.dispose()


def alembic_config(connection: Connection | None = None) -> Config:
    """What alembic's commands need to run on a connection."""
    config = Config(_MIGRATIONS / "alembic.ini")
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
