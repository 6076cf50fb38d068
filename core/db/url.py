"""Addresses of databases, in the one form that psycopg reads and the one that SQLAlchemy reads."""

import re

from core.errors import Invalid

_SCHEME = re.compile(r"(postgresql|postgres)(\+psycopg)?://")
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")


def libpq_url(url: str) -> str:
    """The address as psycopg and procrastinate read it.

    >>> libpq_url("postgres://db/sparsight")
    'postgresql://db/sparsight'

    Raises:
        Invalid: not an address of PostgreSQL.
    """
    match = _SCHEME.match(url)
    if match is None:
        raise Invalid(
            f"{hide_password(url)!r} is not an address of PostgreSQL.",
            hint="Write postgresql://user:password@host:5432/name.",
        )
    return "postgresql://" + url[match.end() :]


def sqlalchemy_url(url: str) -> str:
    """The address as SQLAlchemy reads it, with psycopg 3 as the driver.

    >>> sqlalchemy_url("postgres://db/sparsight")
    'postgresql+psycopg://db/sparsight'
    """
    return libpq_url(url).replace("postgresql://", "postgresql+psycopg://", 1)


def hide_password(text: str) -> str:
    """The text with every password of an address in it replaced by stars.

    >>> hide_password("postgresql://ann:secret@db/sparsight")
    'postgresql://ann:***@db/sparsight'
    """
    return _PASSWORD.sub(r"\1:***@", text)
