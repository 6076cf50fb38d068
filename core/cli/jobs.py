"""``sparsight jobs``: list, follow, cancel and resume."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from core.cli import options
from core.cli.console import out, read_settings, say
from core.cli.follow import amount
from core.cli.harvest import follow, worker_at_hand
from core.cli.stack import stop_on_signals
from core.db.embedded import database
from core.db.migrate import migrate
from core.db.repositories import jobs
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.job import JobState
from core.jobs import control

app = typer.Typer(
    help="List, follow, cancel and resume jobs.", no_args_is_help=True, add_completion=False
)
Id = Annotated[int, typer.Argument(help="Number of the job.", metavar="JOB")]


@app.command("list")
def list_all(
    *,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    data: options.Data = None,
) -> None:
    """List jobs, the newest first."""
    with _scope(data) as scope, scope() as session:
        cards = jobs.list_jobs(session, state=state, limit=limit)
    if not cards:
        say("No jobs yet. Start one with: sparsight harvest --preset demo")
        return
    table = Table("job", "state", "what", "progress", box=None, pad_edge=False)
    for card in cards:
        how_far = card.error_message or amount(card.progress)
        table.add_row(str(card.job_id), card.state.value, card.title, how_far)
    out.print(table)


@app.command("follow")
def follow_one(
    job: Id,
    *,
    verbose: Annotated[bool, typer.Option(help="Show every line of its log.")] = False,
    data: options.Data = None,
) -> None:
    """Watch a job to its end; starts a worker if none is running."""
    settings = read_settings(data_dir=data)
    with stop_on_signals(), worker_at_hand(settings, verbose=False) as (url, stack):
        engine = make_engine(url, pool_size=2)
        code = follow(session_scope(engine), job, stack, verbose=verbose)
        engine.dispose()
    raise typer.Exit(code)


@app.command()
def cancel(job: Id, *, data: options.Data = None) -> None:
    """Ask a job to stop; what it has finished is kept."""
    with _scope(data) as scope:
        with scope() as session:
            state = control.request_cancel(session, job)
        say(f"Job {job} is {state}.")


@app.command()
def resume(job: Id, *, data: options.Data = None) -> None:
    """Queue a cancelled or failed job again; finished parts are not done twice."""
    with _scope(data) as scope:
        with scope() as session:
            attempt = control.resume(session, job)
        say(f"Job {job} waits for its attempt {attempt}. Watch it: sparsight jobs follow {job}")


@contextmanager
def _scope(data: Path | None) -> Iterator[SessionScope]:
    settings = read_settings(data_dir=data)
    with database(settings.database_url, settings.data_dir) as url:
        migrate(url)
        engine = make_engine(url, pool_size=1)
        try:
            yield session_scope(engine)
        finally:
            engine.dispose()
