"""Engine and sessions: one transaction a block, committed at its end, rolled back on any error."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as Session  # named by the services, which know no SQL

from core.db.url import hide_password, sqlalchemy_url
from core.errors import DatabaseUnavailable, DiskFull, Invalid, SparsightError

SessionScope = Callable[[], AbstractContextManager[Session]]

_GONE = ("08", "57P", "53300", "25P03")  # lost, shutting down, too many clients, idle too long
_FULL = ("53100",)
_UNSTORABLE = (  # text that PostgreSQL keeps in no column: NUL, half of a surrogate pair
    psycopg.errors.UntranslatableCharacter,
    psycopg.errors.CharacterNotInRepertoire,
    psycopg.errors.InvalidTextRepresentation,
)


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """A pool of connections to any of the address forms of :mod:`core.db.url`."""
    return create_engine(
        sqlalchemy_url(url),
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"connect_timeout": 10, "application_name": "sparsight"},
    )


def session_scope(engine: Engine) -> SessionScope:
    """A factory of transactions: ``with scope() as session: …`` commits once, at the end.

    Raises (inside the block's end):
        DatabaseUnavailable: the server is gone.
        DiskFull: its disk is full.
        Invalid: a text or number that no column holds.
    """

    @contextmanager
    def scope() -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (DBAPIError, psycopg.Error) as error:
            known = _named(error)
            if known is None:
                raise
            raise known from error

    return scope


def _named(error: DBAPIError | psycopg.Error) -> SparsightError | None:
    """The product's own error for what machine or caller did; None for a fault of the program."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, psycopg.errors.NumericValueOutOfRange):
        return Invalid("A number is too large to be stored.", hint="Use a smaller number.")
    if isinstance(origin, _UNSTORABLE) or type(origin) is psycopg.DataError:
        return Invalid(
            "A text holds a character that cannot be stored: NUL, or half of a surrogate pair.",
            hint="Remove the character.",
        )
    if not isinstance(
        origin, psycopg.OperationalError | psycopg.errors.IdleInTransactionSessionTimeout
    ):
        return None
    state = origin.sqlstate
    if state is not None and state.startswith(_FULL):
        return DiskFull(
            "The database's disk is full; nothing of this step was stored.",
            hint="Free some disk and resume.",
        )
    if state is None or state.startswith(_GONE):
        reason = hide_password(str(origin).strip().splitlines()[0])
        return DatabaseUnavailable(
            f"The database does not answer: {reason}", hint="Check that it runs; then try again."
        )
    return None
