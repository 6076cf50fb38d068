"""The engine's queue: an entry says "run attempt N of job J", nothing more.

The engine is procrastinate. Its entries are made inside our own transactions, so that a job and
its entry exist together or not at all.
"""

from urllib.parse import quote

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from sqlalchemy.orm import Session

from core.db.repositories import jobs
from core.domain.job import JobQueue

RUN_ATTEMPT = "run_attempt"  # task of the worker; arguments job_id and attempt
REAP = "recover_dead_attempts"  # periodic task of the ctl queue

# Entries are made on the session's own connection; this connector is never opened.
_QUEUE = App(connector=SyncPsycopgConnector())


def make_app(url: str) -> App:
    """The engine of a worker process, on its own connections."""
    return App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=8, timeout=10))


def impatient(url: str, *, seconds: float) -> str:
    """The address with which the server ends a session that sits still inside a transaction.

    A process that is frozen between a statement and its commit would else keep rows locked that
    others need to take its jobs over.

    >>> impatient("postgresql://db/sparsight", seconds=8.0)
    'postgresql://db/sparsight?options=-c%20idle_in_transaction_session_timeout%3D8000'
    """
    if "options=" in url:
        return url
    option = quote(f"-c idle_in_transaction_session_timeout={round(seconds * 1000)}")
    return f"{url}{'&' if '?' in url else '?'}options={option}"


def enqueue(session: Session, *, queue: JobQueue, job_id: int, attempt: int) -> None:
    """Put an attempt into the queue, in the session's transaction."""
    connection = session.connection().connection.driver_connection
    task = _QUEUE.configure_task(
        RUN_ATTEMPT, queue=queue.value, connection=connection, allow_unknown=True
    )
    entry = task.defer(job_id=job_id, attempt=attempt)
    jobs.set_engine_job(session, job_id, entry)
