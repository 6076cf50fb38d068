"""Bulk loading: rows into a table by binary COPY, inside the session's transaction."""

from collections.abc import Iterable, Sequence

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.orm import Session

_TYPES = {
    "BIGINT": "int8",
    "INTEGER": "int4",
    "SMALLINT": "int2",
    "DOUBLE PRECISION": "float8",
    "BOOLEAN": "bool",
    "BYTEA": "bytea",
    "TEXT": "text",
    "VARCHAR": "text",
}


def copy_rows(
    session: Session,
    table: Table,
    *,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    """Append rows to a table.

    Args:
        session: the transaction; what it wrote before is flushed first.
        table: where the rows go.
        columns: names of the values of a row, in their order.
        rows: plain Python values of exactly the columns' types; read once, so they may be lazy.
    """
    session.flush()
    connection = session.connection()
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"COPY needs psycopg, not {type(driver).__name__}")
    types = [_TYPES[table.c[name].type.compile(connection.dialect)] for name in columns]
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with driver.cursor() as cursor, cursor.copy(query) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
