"""Real workers and runners, killed and frozen at the worst moments."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from core.db.repositories import attempts, jobs
from core.db.session import SessionScope
from core.domain.job import EventKind, JobState
from core.jobs import control
from tests.support.jobs import (
    card_of,
    job_spec,
    wait_for,
    wait_for_end,
    worker_process,
)


class House:
    """A database, a data folder, and what tests do with jobs."""

    def __init__(self, url: str, scope: SessionScope, folder: Path):
        self.url, self.scope, self.folder = url, scope, folder

    def submit(self, behaviour="work", **knobs) -> int:
        with self.scope() as session:
            return control.submit(session, job_spec(behaviour, **knobs))

    def worker(self, **options):
        return worker_process(self.url, self.folder, **options)

    def cancel(self, job_id) -> JobState:
        with self.scope() as session:
            return control.request_cancel(session, job_id)

    def resume(self, job_id) -> int:
        with self.scope() as session:
            return control.resume(session, job_id)

    def end_of(self, job_id, seconds=90.0):
        return wait_for_end(self.scope, job_id, seconds=seconds)

    def card(self, job_id):
        return card_of(self.scope, job_id)

    def work_dir(self, job_id) -> Path:
        return self.folder / "jobs" / str(job_id)

    def acted(self, job_id) -> list[str]:
        """Items in the order in which handlers did them, repeated ones included."""
        return (self.work_dir(job_id) / "done.txt").read_text().split()

    def runner(self, job_id) -> int:
        return int((self.work_dir(job_id) / "pid.txt").read_text())

    def wait_for_item(self, job_id, number=0) -> None:
        done = self.work_dir(job_id) / "done.txt"
        wait_for(lambda: done.exists() and f"{number:03}" in done.read_text(), what="an item")

    def items(self, job_id):
        with self.scope() as session:
            return attempts.finished_items(session, job_id)


@pytest.fixture
def house(database_url, session_scope, tmp_path):
    return House(database_url, session_scope, tmp_path)


def alive(pid) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_ends_as_its_handler_does(house):
    with house.worker() as worker:
        ends = {
            kind: house.submit(kind) for kind in ("work", "invalid", "fault", "crash-once", "crash")
        }
        cards = {kind: house.end_of(job_id) for kind, job_id in ends.items()}
        assert worker.end() == 0
    done = cards["work"]
    assert (done.state, done.result, done.attempt) == (JobState.SUCCEEDED, {"items": 3}, 1)
    assert done.progress.done == done.progress.total == 3
    refused = cards["invalid"]
    assert (refused.state, refused.error_code) == (JobState.FAILED, "invalid")
    assert (refused.error_message, refused.error_hint) == (
        "The width is wrong.",
        "Take another SAE.",
    )
    assert cards["fault"].error_code == "error"
    assert "ZeroDivisionError" in cards["fault"].error_message
    assert (cards["crash-once"].state, cards["crash-once"].attempt) == (JobState.SUCCEEDED, 2)
    assert house.acted(ends["crash-once"]) == ["000", "001", "002"]
    assert (cards["crash"].state, cards["crash"].error_code) == (JobState.FAILED, "runner_crashed")
    with house.scope() as session:
        events = jobs.events_after(session, ends["work"], seq=0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].payload["state"] == "succeeded"
    assert "item 2 done" in [e.payload.get("text") for e in events if e.kind is EventKind.LOG]


def test_a_runner_whose_farewell_would_be_long_leaves_at_once_and_is_not_killed(house):
    with house.worker() as worker:
        job_id = house.submit("slow-farewell")
        assert house.end_of(job_id).state is JobState.SUCCEEDED
        wait_for(lambda: not alive(house.runner(job_id)), seconds=2, what="the runner's end")
        assert worker.end() == 0
    assert "ended with" not in worker.log.read_text()


def test_a_running_job_is_cancelled_and_resumes_where_it_was(house):
    with house.worker():
        job_id = house.submit(items=12, milliseconds=150)
        house.wait_for_item(job_id, 1)
        assert house.cancel(job_id) is JobState.CANCELLING
        card = house.end_of(job_id)
        assert (card.state, card.attempt) == (JobState.CANCELLED, 1)
        wait_for(lambda: not alive(house.runner(job_id)), seconds=15, what="the runner's end")
        kept = house.items(job_id)
        assert 2 <= len(kept) < 12
        house.resume(job_id)
        wait_for(lambda: house.card(job_id).state is JobState.SUCCEEDED, what="success")
    assert sorted(house.acted(job_id)) == [f"{n:03}" for n in range(12)]


def test_a_runner_that_does_not_listen_is_killed_with_all_it_started(house):
    with house.worker():
        deaf = house.submit("deaf")
        wait_for(lambda: (house.work_dir(deaf) / "pid.txt").exists(), what="the runner")
        house.cancel(deaf)
        assert house.end_of(deaf).state is JobState.CANCELLED
        wait_for(lambda: not alive(house.runner(deaf)), seconds=15, what="the runner's end")
        family = house.submit("children", items=100, milliseconds=1000)
        child = house.work_dir(family) / "child.txt"
        wait_for(lambda: child.exists() and child.read_text(), what="the child")
        os.kill(house.runner(family), signal.SIGSTOP)  # it can neither stop nor clean up
        house.cancel(family)
        assert house.end_of(family).state is JobState.CANCELLED
        wait_for(lambda: not alive(int(child.read_text())), seconds=15, what="the child's end")


def test_a_killed_runner_is_started_again_and_repeats_no_finished_item(house):
    with house.worker():
        job_id = house.submit(items=8, milliseconds=120)
        house.wait_for_item(job_id, 2)
        os.kill(house.runner(job_id), signal.SIGKILL)
        card = house.end_of(job_id)
    assert (card.state, card.attempt) == (JobState.SUCCEEDED, 2)
    assert len(house.items(job_id)) == 8
    assert len(house.acted(job_id)) <= 9  # at most the item in hand was begun twice


def test_a_killed_worker_is_replaced_at_once_on_its_machine(house):
    job_id = house.submit(items=10, milliseconds=150)
    with house.worker() as first:
        house.wait_for_item(job_id, 1)
        first.process.kill()
        first.process.wait()
    with house.worker():
        wait_for(lambda: house.card(job_id).attempt == 2, what="the second attempt")
        card = house.end_of(job_id)
    assert (card.state, len(house.items(job_id))) == (JobState.SUCCEEDED, 10)


def test_a_killed_worker_of_another_machine_is_found_by_its_silence(house):
    job_id = house.submit(items=10, milliseconds=150)
    with house.worker() as first:
        house.wait_for_item(job_id, 1)
        with house.scope() as session:
            session.execute(text("UPDATE job SET owner = 'elsewhere:1:1'"))
        first.process.kill()
        first.process.wait()
    with house.worker():
        card = house.end_of(job_id)
    assert (card.state, card.attempt) == (JobState.SUCCEEDED, 2)
    assert len(house.items(job_id)) == 10


def test_a_frozen_worker_that_thaws_after_a_takeover_changes_nothing(house):
    job_id = house.submit(items=50, milliseconds=150)
    with house.worker() as frozen:
        house.wait_for_item(job_id, 1)
        first_runner = house.runner(job_id)
        frozen.send(signal.SIGSTOP)
        with house.worker():
            wait_for(lambda: house.card(job_id).attempt == 2, what="the takeover")
            wait_for(lambda: not alive(first_runner), seconds=15, what="the old runner's end")
            wait_for(lambda: house.card(job_id).state is JobState.RUNNING, what="the new runner")
            frozen.send(signal.SIGCONT)
            card = house.end_of(job_id)
    assert (card.state, card.attempt) == (JobState.SUCCEEDED, 2)
    assert len(house.items(job_id)) == 50
    assert len(house.acted(job_id)) <= 51
    with house.scope() as session:
        states = [
            event.payload["state"]
            for event in jobs.events_after(session, job_id, seq=0)
            if event.kind is EventKind.STATE
        ]
    assert states == ["queued", "running", "queued", "running", "succeeded"]


def test_two_workers_share_many_jobs_and_do_each_once(house):
    ids = [house.submit(items=2) for _ in range(6)]
    with house.worker(), house.worker():
        cards = [house.end_of(job_id) for job_id in ids]
    assert {card.state for card in cards} == {JobState.SUCCEEDED}
    assert {card.attempt for card in cards} == {1}
    assert [house.acted(job_id) for job_id in ids] == [["000", "001"]] * 6


def test_jobs_survive_a_restart_of_the_worker(house):
    with house.worker() as worker:
        running = house.submit(items=10, milliseconds=200)
        waiting = house.submit()
        house.wait_for_item(running, 0)
        runner = house.runner(running)
        assert worker.end() == 0
    assert not alive(runner)
    assert house.card(running).state is JobState.QUEUED
    assert house.card(waiting).state is JobState.QUEUED
    with house.worker():
        assert house.end_of(running).state is JobState.SUCCEEDED
        assert house.end_of(waiting).state is JobState.SUCCEEDED
    assert len(house.acted(running)) <= 11


def test_a_job_of_settings_from_another_version_fails_in_words(house):
    job_id = house.submit()
    with house.scope() as session:
        session.execute(text("UPDATE job SET spec = spec - 'model_id'"))
    with house.worker():
        card = house.end_of(job_id)
    assert (card.state, card.error_code) == (JobState.FAILED, "invalid")
    assert "model_id" in card.error_message
