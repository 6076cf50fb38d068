"""Notifications of the database, as they come."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
from psycopg import sql

from core.db.url import libpq_url

_LOOK_SECONDS = 0.5  # between two looks whether to stop
_AGAIN_SECONDS = 1.0  # after a lost connection


def notifications(
    url: str,
    channel: str,
    *,
    stopping: threading.Event,
    on_state: Callable[[bool], None],
) -> Iterator[str]:
    """Payloads of NOTIFY on a channel, until told to stop; a lost connection is made again.

    What is told while there is no connection is not heard: whoever listens looks by itself then.

    Args:
        url: the database; straight to PostgreSQL, since poolers drop LISTEN.
        channel: its name.
        stopping: set when nobody listens any more.
        on_state: told True when connected, False when not.
    """
    address = libpq_url(url)
    while not stopping.is_set():
        with suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            on_state(True)
            while not stopping.is_set():
                for notice in connection.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                    yield notice.payload
        on_state(False)
        stopping.wait(_AGAIN_SECONDS)
