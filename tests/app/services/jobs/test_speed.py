"""A job's speed over time leaves out the phases that count something else."""

from datetime import UTC, datetime, timedelta

from app.services.jobs import speed as job_speed
from core.db.repositories import attempts
from core.domain.job import EventKind
from core.jobs import control
from tests.support.jobs import job_spec

START = datetime(2026, 11, 20, 10, tzinfo=UTC)


def tell(session, told):
    """A harvest that tells how far it is, at second after second."""
    job_id = control.submit(session, job_spec("work"))
    claim = attempts.claim(session, job_id=job_id, attempt=1, owner="told:1:1")
    assert claim is not None
    events = [
        (
            EventKind.PROGRESS,
            START + timedelta(seconds=second),
            {
                "done": done,
                "total": total,
                "unit": "tokens",
                "rate": rate,
                "remaining_seconds": None,
                "phase": phase,
            },
        )
        for second, (done, total, rate, phase) in enumerate(told)
    ]
    attempts.append_events(session, claim, events)
    return job_id


def test_speed_and_share_are_told_by_seconds_since_the_first_word(session):
    job_id = tell(
        session,
        [
            (1, None, None, "loading"),
            (10, 100, None, "harvesting"),
            (60, 100, 25.5, "harvesting"),
            (1, 3, 0.1, "publishing"),
        ],
    )
    table = job_speed.speed_history(session, job_id)
    assert table.steps == (1, 2)
    assert table.columns == {"share": (0.1, 0.6), "rate": (None, 25.5)}


def test_a_job_that_said_nothing_has_no_history(session):
    job_id = control.submit(session, job_spec("work"))
    assert job_speed.speed_history(session, job_id).n_rows == 0
