"""What alembic runs: on the connection it is given, or at its own door with the settings."""

import importlib
import pkgutil

from alembic import context
from sqlalchemy import Connection

from core.db import models
from core.db.base import Base
from core.db.embedded import database
from core.db.session import make_engine
from core.settings import Settings

for module in pkgutil.iter_modules(models.__path__):
    importlib.import_module(f"core.db.models.{module.name}")


def ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """Whether autogenerate looks at an object: the job engine keeps its own tables."""
    return kind != "table" or not (name or "").startswith("procrastinate_")


def run(connection: Connection) -> None:
    """Run the migrations that were asked for."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=ours,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_at_the_door() -> None:
    """Run them on the database of the settings, when alembic itself is the command."""
    settings = Settings()
    with database(settings.database_url, settings.data_dir) as address:
        engine = make_engine(address)
        with engine.begin() as connection:
            run(connection)
        engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    run_at_the_door()
else:
    run(given)
