"""Submitting, cancelling and resuming, each in one transaction with the engine's queue."""

import pytest
from sqlalchemy import text

from core.db.repositories import attempts, jobs
from core.domain.job import EventKind, JobFailure, JobState, parse_spec, spec_json
from core.domain.place import NewestPlace
from core.errors import Conflict, Invalid, NotFound
from core.jobs import control
from tests.support.jobs import job_spec


def entries(session) -> list[tuple[int, int]]:
    """Job and attempt of every entry in the engine's queue."""
    rows = session.execute(text("SELECT args FROM procrastinate_jobs ORDER BY id"))
    return [(args["job_id"], args["attempt"]) for args in rows.scalars()]


def claim(session, job_id, attempt=1):
    return attempts.claim(session, job_id=job_id, attempt=attempt, owner="here:1:1")


def test_a_job_and_its_queue_entry_come_together(session):
    job_id = control.submit(session, job_spec(), created_by="ann")
    card = jobs.get_card(session, job_id)
    assert (card.state, card.attempt, card.kind) == (JobState.QUEUED, 1, "harvest")
    assert entries(session) == [(job_id, 1)]
    assert jobs.get_job(session, job_id).created_by == "ann"


def test_neither_is_left_when_the_transaction_fails(session_scope):
    def submit_and_fail():
        with session_scope() as session:
            control.submit(session, job_spec())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        submit_and_fail()
    with session_scope() as session:
        assert entries(session) == []
        assert jobs.list_jobs(session) == ()


def test_settings_come_back_as_they_were_submitted(session):
    spec = job_spec(items=7)
    job_id = control.submit(session, spec)
    assert parse_spec(jobs.get_spec(session, job_id)) == spec
    assert [card.job_id for card in jobs.find_by_spec(session, spec_json(spec))] == [job_id]


def test_settings_of_another_version_are_refused_in_words():
    with pytest.raises(Invalid, match="n_topp"):
        parse_spec({**spec_json(job_spec()), "n_topp": 3})


def test_a_waiting_job_is_cancelled_at_once_and_leaves_the_queue(session):
    job_id = control.submit(session, job_spec())
    assert control.request_cancel(session, job_id) is JobState.CANCELLED
    assert entries(session) == []
    assert claim(session, job_id) is None


def test_a_running_job_becomes_cancelling_and_stays_so_when_asked_again(session):
    job_id = control.submit(session, job_spec())
    held = claim(session, job_id)
    assert control.request_cancel(session, job_id) is JobState.CANCELLING
    assert control.request_cancel(session, job_id) is JobState.CANCELLING
    assert attempts.renew(session, held) is True


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_an_ended_job_cannot_be_cancelled(session, end):
    job_id = control.submit(session, job_spec())
    held = claim(session, job_id)
    if end == "succeed":
        attempts.succeed(session, held, {})
    else:
        attempts.fail(session, held, JobFailure(code="x", message="y"))
    with pytest.raises(Conflict):
        control.request_cancel(session, job_id)


def test_a_cancelled_job_stays_cancelled(session):
    job_id = control.submit(session, job_spec())
    control.request_cancel(session, job_id)
    assert control.request_cancel(session, job_id) is JobState.CANCELLED


def test_an_unknown_job_is_not_found(session):
    for act in (control.request_cancel, control.resume, jobs.get_job):
        with pytest.raises(NotFound):
            act(session, 404)


def test_resuming_makes_the_next_attempt_and_forgets_the_error(session):
    job_id = control.submit(session, job_spec())
    attempts.fail(session, claim(session, job_id), JobFailure(code="x", message="y"))
    assert control.resume(session, job_id) == 2
    card = jobs.get_card(session, job_id)
    assert (card.state, card.error_code, card.finished_at) == (JobState.QUEUED, None, None)
    assert entries(session) == [(job_id, 1), (job_id, 2)]
    assert claim(session, job_id, 1) is None
    assert claim(session, job_id, 2) is not None


def test_only_an_ended_unsuccessful_job_can_be_resumed(session):
    job_id = control.submit(session, job_spec())
    with pytest.raises(Conflict):
        control.resume(session, job_id)
    held = claim(session, job_id)
    with pytest.raises(Conflict):
        control.resume(session, job_id)
    attempts.succeed(session, held, {})
    with pytest.raises(Conflict):
        control.resume(session, job_id)


def test_every_change_of_state_is_an_event(session):
    job_id = control.submit(session, job_spec())
    claim(session, job_id)
    control.request_cancel(session, job_id)
    events = jobs.events_after(session, job_id, seq=0)
    assert [event.payload["state"] for event in events] == ["queued", "running", "cancelling"]
    assert [event.seq for event in events] == [1, 2, 3]
    assert {event.kind for event in events} == {EventKind.STATE}
    assert jobs.events_after(session, job_id, seq=2) == events[2:]


def test_a_list_is_paged_forth_and_back(session):
    ids = [control.submit(session, job_spec()) for _ in range(5)]
    first = jobs.list_page(session, place=NewestPlace(), limit=2)
    second = jobs.list_page(session, place=NewestPlace(before=first.next_before), limit=2)
    third = jobs.list_page(session, place=NewestPlace(before=second.next_before), limit=2)
    shown = [card.job_id for part in (first, second, third) for card in part.jobs]
    assert shown == ids[::-1]
    assert (first.previous_after, third.next_before) == (None, None)
    back = jobs.list_page(session, place=NewestPlace(after=third.previous_after), limit=2)
    assert back == second
    assert jobs.list_page(session, place=NewestPlace(after=back.previous_after), limit=2) == first
    assert (
        jobs.list_page(session, place=NewestPlace(after=ids[2]), limit=3).jobs[0].job_id == ids[-1]
    )
    assert jobs.list_page(session, place=NewestPlace(), limit=2, kinds=("align",)).jobs == ()
    assert jobs.list_jobs(session, state=JobState.RUNNING) == ()


def test_only_an_ended_job_can_be_deleted(session):
    job_id = control.submit(session, job_spec())
    with pytest.raises(Conflict):
        jobs.delete_job(session, job_id)
    control.request_cancel(session, job_id)
    jobs.delete_job(session, job_id)
    assert jobs.list_jobs(session) == ()
