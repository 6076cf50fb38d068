"""Harvests from the command line: settings from a preset and options, then submit and follow."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import JsonValue, ValidationError

from core.cli.console import is_interactive, say
from core.cli.follow import Follower, duration
from core.cli.stack import Stack, bring_up, is_up, stop_on_signals
from core.db.embedded import database
from core.db.migrate import migrate
from core.db.repositories import job_queue
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.corpus import FileCorpusSpec, FolderCorpusSpec
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.job import JobCard, JobState
from core.domain.preset import load_preset
from core.domain.sae import SaeKind
from core.errors import Cancelled, Conflict, Invalid
from core.jobs import control
from core.jobs.timing import Timing
from core.settings import Settings

_PRODUCT = Path(__file__).parents[2]


def make_spec(preset: str | None, changes: Mapping[str, object]) -> HarvestSpec:
    """The preset's settings with the given ones in place of them.

    Raises:
        Invalid: a value is missing or out of range; the message names it.
    """
    base = {} if preset is None else load_preset(preset).model_dump()
    given = {name: value for name, value in changes.items() if value is not None}
    missing = [name for name in ("model", "saes", "corpus") if name not in {**base, **given}]
    if missing:
        options = ", ".join("--sae" if name == "saes" else f"--{name}" for name in missing)
        verb = "is" if len(missing) == 1 else "are"
        raise Invalid(f"{options} {verb} missing.", hint="Give it, or start from a --preset.")
    try:
        spec = HarvestSpec.model_validate({**base, **given})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"Harvest settings, {place}: {first['msg']}.") from error
    return _with_full_paths(spec)


@contextmanager
def worker_at_hand(settings: Settings, *, verbose: bool) -> Iterator[tuple[str, Stack | None]]:
    """Address of a database whose jobs are worked on, by a worker of our own if there is no other.

    The second value is the stack that was brought up for that, None if a worker is running.
    """
    if settings.database_url is None and is_up(settings.data_dir) is not None:
        with database(None, settings.data_dir) as url:
            migrate(url)  # the other process may still be starting
            yield url, None
        return
    if settings.database_url is not None and _has_worker(settings.database_url):
        yield settings.database_url, None
        return
    say("No worker is running; starting one for this harvest.", style="dim")
    with bring_up(settings, web=False, verbose=verbose) as stack:
        yield stack.url, stack


def submit_and_follow(settings: Settings, spec: HarvestSpec, *, detach: bool, verbose: bool) -> int:
    """Submit a harvest and show it to its end; returns the exit code."""
    with stop_on_signals(), worker_at_hand(settings, verbose=verbose) as (url, stack):
        if detach and stack is not None:
            raise Conflict(
                "Nothing runs here that could work on a detached harvest.",
                hint="Start `sparsight up` first, or leave --detach away.",
            )
        engine = make_engine(url, pool_size=2)
        scope = session_scope(engine)
        with scope() as session:
            job_id = control.submit(session, spec)
        say(f"Job {job_id}: {spec.model_id}, {len(spec.saes)} SAE(s)")
        try:
            if detach:
                return 0
            return follow(scope, job_id, stack, verbose=verbose)
        finally:
            engine.dispose()


def follow(scope: SessionScope, job_id: int, stack: Stack | None, *, verbose: bool) -> int:
    """Show a job to its end; Ctrl-C leaves it or cancels it. Returns the exit code."""
    while True:
        try:
            with Follower(scope, job_id, verbose=verbose) as follower:
                return tell_end(follower.until_end(_stepper(stack)))
        except (KeyboardInterrupt, Cancelled) as end:
            asked = isinstance(end, KeyboardInterrupt) and is_interactive()
            if not asked or not _wants_cancel(job_id, stack):
                return _leave(job_id, stack)
            with scope() as session:
                control.request_cancel(session, job_id)


def tell_end(card: JobCard) -> int:
    """Say how a job ended; returns the exit code."""
    took = ""
    if card.started_at is not None and card.finished_at is not None:
        took = f" in {duration((card.finished_at - card.started_at).total_seconds())}"
    match card.state:
        case JobState.SUCCEEDED:
            say(f"Job {card.job_id} succeeded{took}. {_facts(card.result or {})}", style="green")
            return 0
        case JobState.FAILED:
            say(f"Job {card.job_id} failed: {card.error_message}", style="red")
            say(card.error_hint or "")
            say(f"Try again with: sparsight jobs resume {card.job_id}", style="dim")
            return 2
        case state:
            say(f"Job {card.job_id} is {state}; sparsight jobs resume {card.job_id} goes on.")
            return 130


def _facts(result: Mapping[str, JsonValue]) -> str:
    """The counts in a job's result: ``n_tokens`` becomes ``717 tokens``."""
    counts = {
        name.removeprefix("n_").replace("_", " "): value
        for name, value in result.items()
        if name.startswith("n_") and isinstance(value, int)
    }
    return ", ".join(f"{value:,} {name}" for name, value in counts.items())


def _stepper(stack: Stack | None) -> Callable[[], None]:
    return stack.step if stack is not None else lambda: time.sleep(0.2)


def _wants_cancel(job_id: int, stack: Stack | None) -> bool:
    rest = "goes on" if stack is None else "waits for the next worker"
    return typer.confirm(f"\nCancel job {job_id}? Otherwise it {rest}.", default=False)


def _leave(job_id: int, stack: Stack | None) -> int:
    if stack is None:
        say(f"Left job {job_id}; it goes on. See it with: sparsight jobs follow {job_id}")
        return 0
    say(f"Stopping. Job {job_id} goes on from here with: sparsight jobs follow {job_id}")
    return 130


def _has_worker(url: str) -> bool:
    migrate(url)
    engine = make_engine(url, pool_size=1)
    with session_scope(engine)() as session:
        alive = job_queue.has_live_worker(session, within_seconds=Timing().stall)
    engine.dispose()
    return alive


def _with_full_paths(spec: HarvestSpec) -> HarvestSpec:
    """Paths that exist below the working directory or the product's folder, written in full."""
    saes = tuple(
        SaeEntry(
            sae_id=entry.sae_id,
            source=entry.source
            if entry.source.kind is SaeKind.HUB
            else entry.source.model_copy(update={"location": _full(entry.source.location)}),
        )
        for entry in spec.saes
    )
    corpus = spec.corpus
    if isinstance(corpus, FileCorpusSpec | FolderCorpusSpec):
        corpus = corpus.model_copy(update={"path": _full(corpus.path)})
    return spec.model_copy(update={"saes": saes, "corpus": corpus})


def _full(path: str) -> str:
    here = Path(path).expanduser()
    if here.is_absolute() or (_PRODUCT / here).exists():
        return path  # the worker finds the product's own files by itself
    return str(here.absolute()) if here.exists() else path
