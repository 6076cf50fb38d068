"""Events of a job: numbered without gaps whoever writes, and announced."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest
from pydantic import JsonValue

from core.db.repositories import attempts, jobs
from core.db.repositories.job_events import EVENT_CHANNEL
from core.domain.job import EventKind
from core.jobs import control
from tests.support.jobs import job_spec


def claimed(scope):
    """A job that is held."""
    with scope() as session:
        job_id = control.submit(session, job_spec())
        return attempts.claim(session, job_id=job_id, attempt=1, owner="here:1:1")


def line(text):
    return (EventKind.LOG, datetime.now(UTC), {"level": "info", "text": text})


def test_many_writers_leave_no_gap_and_no_double(session_scope):
    held = claimed(session_scope)

    def write(writer):
        for number in range(10):
            with session_scope() as session:
                attempts.append_events(session, held, [line(f"{writer}.{number}")] * 2)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with session_scope() as session:
        events = jobs.events_after(session, held.job_id, seq=0, limit=1000)
    assert [event.seq for event in events] == list(range(1, 6 * 10 * 2 + 2 + 1))


def test_a_failed_transaction_leaves_no_gap(session_scope):
    held = claimed(session_scope)

    def write_and_fail():
        with session_scope() as session:
            attempts.append_events(session, held, [line("lost")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with session_scope() as session:
        attempts.append_events(session, held, [line("kept")])
        assert jobs.events_after(session, held.job_id, seq=2)[0].seq == 3


def test_many_claims_of_many_jobs_give_each_job_to_one(session_scope):
    with session_scope() as session:
        ids = [control.submit(session, job_spec()) for _ in range(100)]

    def take(worker):
        won = []
        for job_id in ids:
            with session_scope() as session:
                if attempts.claim(session, job_id=job_id, attempt=1, owner=f"{worker}:1:1"):
                    won.append(job_id)
        return won

    with ThreadPoolExecutor(4) as pool:
        won = [job_id for part in pool.map(take, range(4)) for job_id in part]
    assert sorted(won) == ids


def test_whoever_listens_is_woken_with_the_job(session_scope, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {EVENT_CHANNEL}")
        held = claimed(session_scope)
        heard = [note.payload for note in connection.notifies(timeout=5, stop_after=1)]
    assert heard == [str(held.job_id)]


def test_a_page_holds_the_newest_lines_of_the_log_in_order(session_scope):
    held = claimed(session_scope)
    with session_scope() as session:
        attempts.append_events(session, held, [line(str(n)) for n in range(600)])
        page = jobs.get_job(session, held.job_id)
    assert [entry.text for entry in page.log] == [str(n) for n in range(100, 600)]
    assert page.last_seq == 602


def test_a_job_holds_its_newest_progress(session_scope):
    held = claimed(session_scope)
    fields: dict[str, JsonValue] = {"total": 9, "unit": "items", "phase": "acting"}
    fields |= {"rate": None, "remaining_seconds": None}
    events = [(EventKind.PROGRESS, datetime.now(UTC), {**fields, "done": n}) for n in (1, 2)]
    with session_scope() as session:
        attempts.append_events(session, held, events)
        progress = jobs.get_card(session, held.job_id).progress
    assert progress is not None
    assert progress.done == 2


def metric(step):
    return (EventKind.METRIC, datetime.now(UTC), {"step": step, "loss": 0.5})


def test_a_step_that_is_stored_is_not_stored_again(session_scope):
    held = claimed(session_scope)

    def write(*events, each_step_once=True):
        with session_scope() as session:
            attempts.append_events(session, held, events, each_step_once=each_step_once)

    write(metric(0), metric(1), line("one"))
    write(metric(1), metric(0))
    write(metric(1), line("two"), metric(2), metric(2))
    with session_scope() as session:
        assert attempts.last_step(session, held.job_id) == 2
        events = jobs.events_after(session, held.job_id, seq=2)
    told = [event.payload.get("step", event.payload.get("text")) for event in events]
    assert told == [0, 1, "one", "two", 2]
    assert [event.seq for event in events] == [3, 4, 5, 6, 7]
    write(metric(2), each_step_once=False)
    with session_scope() as session:
        assert jobs.get_job(session, held.job_id).last_seq == 8


def test_a_job_without_numbers_has_no_step(session_scope):
    held = claimed(session_scope)
    with session_scope() as session:
        assert attempts.last_step(session, held.job_id) == -1
