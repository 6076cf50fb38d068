"""A job watched in the terminal: a bar where there is one, lines where there is none."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from core.cli.console import out, say
from core.db.repositories import jobs
from core.db.session import SessionScope
from core.domain.job import EventKind, JobCard, JobEvent, JobState
from core.domain.job import Progress as JobProgress
from core.errors import DatabaseUnavailable

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 90.0  # a database that restarts is waited for
LINE_SECONDS = 15.0  # between two lines of progress where there is no terminal
_LOUD = {"warning": "yellow", "error": "red", "critical": "red"}


class Follower:
    """Shows one job's progress and warnings as they come.

    Args:
        scope: makes transactions.
        job_id: which job.
        verbose: show every line of its log, not only warnings.
    """

    def __init__(self, scope: SessionScope, job_id: int, *, verbose: bool = False) -> None:
        self._scope = scope
        self._job_id = job_id
        self._verbose = verbose
        self._seq = 0
        self._looked = 0.0
        self._heard = time.monotonic()
        self._line_at = 0.0
        self._phase = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            _Amount(),
            console=out,
            disable=not out.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("waiting for the worker", total=None)

    def __enter__(self) -> "Follower":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def look(self) -> JobCard | None:
        """Show what is new; returns the job, None if there is nothing to see just now."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        try:
            with self._scope() as session:
                card = jobs.get_card(session, self._job_id)
                events = jobs.events_after(session, self._job_id, seq=self._seq)
        except DatabaseUnavailable:
            if now - self._heard > PATIENCE_SECONDS:
                raise
            return None
        self._heard = now
        for event in events:
            self._seq = event.seq
            self._show(event)
        self._show_progress(card, now)
        return card

    def until_end(self, step: Callable[[], None]) -> JobCard:
        """Follow the job to its end, calling ``step`` between two looks."""
        while True:
            card = self.look()
            if card is not None and not card.active:
                return card
            step()

    def _show(self, event: JobEvent) -> None:
        if event.kind is not EventKind.LOG:
            return
        level = str(event.payload["level"])
        if self._verbose or level in _LOUD:
            self._bar.console.print(
                Text(f"  {event.payload['text']}", style=_LOUD.get(level, "dim"))
            )

    def _show_progress(self, card: JobCard, now: float) -> None:
        progress = card.progress
        doing = card.state.value if progress is None or not progress.phase else progress.phase
        if card.state is not JobState.RUNNING:
            doing = card.state.value
        self._bar.update(
            self._task,
            description=doing,
            completed=0 if progress is None else progress.done,
            total=None if progress is None else progress.total,
            job=progress,
        )
        if out.is_terminal or (doing == self._phase and now - self._line_at < LINE_SECONDS):
            return
        self._phase, self._line_at = doing, now
        say(f"{doing}: {amount(progress)}" if progress else doing)


class _Amount(ProgressColumn):
    """``1,024 of 4,096 contexts · 210/s · 15 s left``."""

    def render(self, task: Task) -> Text:
        """The column of one task."""
        return Text(amount(task.fields.get("job")), style="dim")


def amount(progress: JobProgress | None) -> str:
    """How far a job is, in words.

    >>> amount(JobProgress(done=1024, total=4096, unit="contexts", rate=210.4,
    ...     remaining_seconds=75.0, phase="reading"))
    '1,024 of 4,096 contexts · 210/s · 1:15 left'
    """
    if progress is None:
        return ""
    of_total = "" if progress.total is None else f" of {progress.total:,}"
    parts = [f"{progress.done:,}{of_total} {progress.unit}"]
    if progress.rate is not None:
        parts.append(f"{progress.rate:,.0f}/s" if progress.rate >= 10 else f"{progress.rate:.1f}/s")
    if progress.remaining_seconds is not None:
        parts.append(f"{duration(progress.remaining_seconds)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Time in the form of a clock.

    >>> duration(3723.0), duration(42.4)
    ('1:02:03', '42 s')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
