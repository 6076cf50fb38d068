"""What follows the death of an attempt."""

import pytest
from sqlalchemy import text

from core.db.repositories import attempts, job_queue, jobs
from core.domain.job import JobState
from core.errors import ClaimLost
from core.jobs import control
from core.jobs.owner import Owner
from core.jobs.recovery import (
    Crash,
    recover,
    recover_dead_owners,
    recover_orphans,
    recover_stalled,
    release,
)
from core.jobs.timing import Timing
from tests.support.jobs import card_of, job_spec

DEAD = "elsewhere:1:1"


def claim(session, job_id, attempt=1, owner=DEAD):
    return attempts.claim(session, job_id=job_id, attempt=attempt, owner=owner)


def test_a_crashed_attempt_is_tried_again_until_its_limit(session):
    job_id = control.submit(session, job_spec())
    for attempt in range(1, Crash.CRASHED.value.limit):
        assert recover(session, claim(session, job_id, attempt), Crash.CRASHED) is JobState.QUEUED
    last = claim(session, job_id, Crash.CRASHED.value.limit)
    assert recover(session, last, Crash.CRASHED) is JobState.FAILED
    card = jobs.get_card(session, job_id)
    assert card.error_code == "runner_crashed"
    assert card.error_hint


def test_a_finished_item_begins_the_count_anew(session):
    job_id = control.submit(session, job_spec())
    for attempt in range(1, 2 * Crash.CRASHED.value.limit):
        held = claim(session, job_id, attempt)
        attempts.finish_item(session, held, key=str(attempt), result=None)
        assert recover(session, held, Crash.CRASHED) is JobState.QUEUED


def test_memory_that_runs_out_is_told_in_words(session):
    job_id = control.submit(session, job_spec())
    recover(session, claim(session, job_id), Crash.OUT_OF_MEMORY)
    recover(session, claim(session, job_id, 2), Crash.OUT_OF_MEMORY)
    card = jobs.get_card(session, job_id)
    assert card.error_code == "out_of_memory"
    assert "ran out of memory" in str(card.error_message)


def test_a_job_that_was_asked_to_stop_is_cancelled_and_not_tried_again(session):
    for end in (lambda held: recover(session, held, Crash.KILLED), lambda h: release(session, h)):
        job_id = control.submit(session, job_spec())
        held = claim(session, job_id)
        control.request_cancel(session, job_id)
        end(held)
        assert jobs.get_card(session, job_id).state is JobState.CANCELLED


def test_nothing_can_be_written_after_a_takeover(session):
    job_id = control.submit(session, job_spec())
    old = claim(session, job_id)
    release(session, old)
    new = claim(session, job_id, 2)
    assert new.epoch > old.epoch
    writes = [
        lambda: attempts.renew(session, old),
        lambda: attempts.guard(session, old),
        lambda: attempts.append_events(session, old, []),
        lambda: attempts.finish_item(session, old, key="a", result=1),
        lambda: attempts.succeed(session, old, {}),
        lambda: attempts.cancelled(session, old),
        lambda: attempts.count_crash(session, old),
        lambda: recover(session, old, Crash.CRASHED),
    ]
    for write in writes:
        with pytest.raises(ClaimLost):
            write()
    attempts.succeed(session, new, {})


def test_a_transaction_of_a_lost_claim_does_not_commit(session_scope):
    with session_scope() as session:
        job_id = control.submit(session, job_spec())
        old = claim(session, job_id)

    def write_too_late():
        with attempts.fenced(session_scope, old)() as session:
            session.execute(
                text("INSERT INTO job_item VALUES (:job, 'late', 'done')"), {"job": job_id}
            )
            with session_scope() as other:  # the takeover comes while the first is still open
                release(other, old)

    with pytest.raises(ClaimLost):
        write_too_late()
    with session_scope() as session:
        assert attempts.finished_items(session, job_id) == {}


def test_the_job_of_a_process_that_is_gone_is_taken_over(session_scope):
    gone = str(Owner.me()).rsplit(":", 1)[0] + ":1"
    with session_scope() as session:
        job_id = control.submit(session, job_spec())
        claim(session, job_id, owner=gone)
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
    assert recover_dead_owners(session_scope) == 1
    assert recover_dead_owners(session_scope) == 0
    card = card_of(session_scope, job_id)
    assert (card.state, card.attempt) == (JobState.QUEUED, 2)


def test_a_stalled_entry_is_taken_over_once_however_often_it_is_found(session_scope):
    with session_scope() as session:
        job_id = control.submit(session, job_spec())
        claim(session, job_id)
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        entry = jobs.engine_job_of(session, job_id)
    assert entry is not None
    found = [(entry, job_id, 1)]
    assert recover_stalled(session_scope, found) == 1
    assert recover_stalled(session_scope, found) == 0
    assert card_of(session_scope, job_id).attempt == 2


def test_an_entry_whose_worker_died_before_its_claim_is_put_back(session_scope):
    with session_scope() as session:
        job_id = control.submit(session, job_spec())
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        entry = jobs.engine_job_of(session, job_id)
    assert entry is not None
    assert recover_stalled(session_scope, [(entry, job_id, 1)]) == 1
    assert card_of(session_scope, job_id).attempt == 2


@pytest.mark.parametrize("claimed", [False, True], ids=["waiting", "running"])
def test_a_job_that_the_engine_forgot_is_put_back(session_scope, claimed):
    with session_scope() as session:
        job_id = control.submit(session, job_spec())
        if claimed:
            claim(session, job_id)
        session.execute(text("DELETE FROM procrastinate_jobs"))
        assert job_queue.list_orphans(session) == ((job_id, 1),)
    assert recover_orphans(session_scope) == 1
    with session_scope() as session:
        assert job_queue.list_orphans(session) == ()
        assert claim(session, job_id, 2) is not None


def test_a_worker_stops_its_jobs_before_another_takes_them_over():
    with pytest.raises(ValueError, match="before another"):
        Timing(fence=10.0, grace=10.0, stall=20.0)
