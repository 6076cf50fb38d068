"""What a handler sees of its job."""

import logging
import threading
import time

import pytest

from core.db.repositories import attempts, jobs
from core.domain.job import EventKind, JobFailure
from core.domain.job_lines import SENTENCES
from core.errors import Cancelled, ClaimLost
from core.jobs import control
from core.jobs.recovery import release
from tests.support.jobs import card_of, claimed_job, job_spec
from worker.progress import MAX_LINES_A_WRITE, RateMeter
from worker.runner import JobLog


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def rates(points):
    """Rate after each (seconds, done)."""
    clock = Clock()
    meter = RateMeter(clock)
    found = []
    for seconds, done in points:
        clock.now = 100.0 + seconds
        found.append(meter.add(done))
    return found


def test_work_of_earlier_attempts_is_not_speed():
    assert rates([(0, 5000), (1, 5010), (2, 5020)]) == [None, 10.0, 10.0]


def test_the_rate_forgets_what_is_older_than_half_a_minute():
    slow = [(t, t) for t in range(60)]
    fast = [(60 + t, 60 + 10 * t) for t in range(1, 41)]
    assert rates([*slow, *fast])[-1] == pytest.approx(10.0)


def test_a_rate_is_unknown_until_something_is_done():
    assert rates([(0, 0), (10, 0)]) == [None, None]


def test_a_count_that_falls_begins_anew():
    assert rates([(0, 0), (10, 100), (11, 0), (13, 10)])[-1] == 5.0


def test_progress_is_written_with_rate_and_remaining_time(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        job.progress(done=100, total=200, unit="contexts", phase="reading")
        time.sleep(0.6)
        job.progress(done=110, total=200, unit="contexts", phase="reading")
        job.flush()
        shown = card_of(session_scope, job.job_id).progress
    assert shown is not None
    assert shown.rate is not None
    assert (shown.done, shown.total, shown.phase) == (110, 200, "reading")
    assert 5 < shown.rate < 20
    assert shown.remaining_seconds == pytest.approx(90 / shown.rate)


def test_writes_are_few_and_the_last_number_arrives(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        for number in range(2000):
            job.progress(done=number, total=2000, unit="contexts", phase="reading")
    with session_scope() as session:
        events = jobs.events_after(session, job.job_id, seq=0)
    shown = [event.payload["done"] for event in events if event.kind is EventKind.PROGRESS]
    assert len(shown) < 10
    assert shown[-1] == 1999


def test_a_flood_of_lines_is_counted_and_not_stored(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        job.log("first")
        for number in range(1000):
            job.log(f"line {number}")
    with session_scope() as session:
        log = jobs.get_job(session, job.job_id).log
    assert len(log) <= MAX_LINES_A_WRITE + 10
    assert log[-1].text.endswith("more lines left out")
    assert log[-1].line == "lines_left_out"


def test_a_known_line_is_stored_with_its_kind_and_values(session_scope, tmp_path):
    said = logging.getLogger("worker.packages.test")
    facts = {"package": "nltk", "version": "3.9.1"}
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        handler = JobLog(job)
        for text, values in ((SENTENCES["package_fetched"], facts), ("%(package)s is old", facts)):
            handler.emit(said.makeRecord(said.name, logging.INFO, "", 0, text, (values,), None))
    with session_scope() as session:
        known, free = jobs.get_job(session, job.job_id).log
    assert (known.line, known.values) == ("package_fetched", facts)
    assert known.text == "Fetching nltk 3.9.1 from the package index"
    assert (free.line, free.text) == (None, "nltk is old")


def test_metrics_are_events_with_their_step(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        job.metric(3, loss=0.5)
    with session_scope() as session:
        events = jobs.events_after(session, job.job_id, seq=0)
    assert [e.payload for e in events if e.kind is EventKind.METRIC] == [{"step": 3, "loss": 0.5}]


def test_a_finished_item_is_kept_and_a_failed_one_is_not_finished(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        job.finish_item("a", {"rows": 1})
        job.finish_item("a", {"rows": 2})
        job.fail_item("b", JobFailure(code="unparsable", message="no answer"))
        assert job.finished_items() == {"a": {"rows": 2}}
        job.finish_item("b", None)
        assert job.finished_items() == {"a": {"rows": 2}, "b": None}


def test_a_job_that_is_asked_to_stop_hears_it_at_its_next_check(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        with session_scope() as session:
            control.request_cancel(session, job.job_id)
        with pytest.raises(Cancelled):
            job.check()


def test_a_check_is_cheap(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        begun = time.monotonic()
        for _ in range(10_000):
            job.check()
        assert time.monotonic() - begun < 0.5


def test_after_a_takeover_nothing_is_written_and_the_job_is_told(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:
        with session_scope() as session:
            release(session, job.claim)
        before = card_of(session_scope, job.job_id)
        with pytest.raises(ClaimLost):
            job.finish_item("late", 1)

        def write_late():
            with job.scope() as session:
                jobs.set_engine_job(session, job.job_id, 4711)

        with pytest.raises(ClaimLost):
            write_late()
        with pytest.raises((ClaimLost, Cancelled)):
            job.check()
    with session_scope() as session:
        assert attempts.finished_items(session, job.job_id) == {}
        assert jobs.engine_job_of(session, job.job_id) != 4711
    assert card_of(session_scope, job.job_id) == before


def test_threads_may_report_at_once(session_scope, tmp_path):
    with claimed_job(session_scope, job_spec(), tmp_path) as job:

        def report():
            for number in range(20):
                job.log(f"{number}")

        threads = [threading.Thread(target=report) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with session_scope() as session:
        assert len(jobs.get_job(session, job.job_id).log) == 100
