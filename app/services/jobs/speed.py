"""A job's speed and progress over time, from what it told on the way."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pydantic import JsonValue

from app.services.jobs import jobs
from app.services.jobs.metric_history import MOST_POINTS, MetricTable, make_table
from core.db.repositories import job_numbers
from core.db.session import Session
from core.domain.job import EventKind, JobCard, JobEvent

_MAIN_PHASES = ("harvesting", "training")
_MAIN_UNITS = {"harvest": "tokens", "align": "steps", "sft": "steps"}


def speed_history(session: Session, job_id: int, *, most: int = MOST_POINTS) -> MetricTable:
    """Speed and progress of a job from its beginning.

    Returns:
        By seconds since its first word: ``rate``, units a second, and ``share`` done, in [0, 1].
        Where a job has a main phase, the phases around it are left out, since they count other
        units.

    Raises:
        NotFound: no such job.
    """
    card = jobs.get_job(session, job_id).card
    events = job_numbers.events_of_kind(session, job_id, EventKind.PROGRESS)
    return speed_table(session, card, events, most=most)


def speed_unit(card: JobCard) -> str:
    """What the curves of a job count."""
    return _MAIN_UNITS.get(card.kind) or (card.progress.unit if card.progress else "items")


def speed_table(
    session: Session, card: JobCard, events: Iterable[JobEvent], *, most: int = MOST_POINTS
) -> MetricTable:
    """Speed and progress that events tell, by seconds since the job's first word."""
    first = job_numbers.first_of_kind(session, card.job_id, EventKind.PROGRESS)
    if first is None:
        return MetricTable(steps=(), columns={})
    return make_table(_rows(card, events, since=first.at), most=most)


def _rows(
    card: JobCard, events: Iterable[JobEvent], *, since: datetime
) -> Iterator[dict[str, JsonValue]]:
    phased = card.kind in _MAIN_UNITS
    for event in events:
        told = event.payload
        if event.kind is not EventKind.PROGRESS or (phased and told["phase"] not in _MAIN_PHASES):
            continue
        row: dict[str, JsonValue] = {"step": round((event.at - since).total_seconds(), 3)}
        done, total, rate = told["done"], told["total"], told["rate"]
        if isinstance(rate, int | float):
            row["rate"] = rate
        if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
            row["share"] = min(1.0, done / total)
        yield row
