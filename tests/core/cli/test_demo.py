"""Which job the demo shows: one that runs, one that stopped, a new one, or none."""

import pytest

from core.cli.demo import demo_job
from core.cli.harvest import make_spec
from core.db.repositories import attempts
from core.domain.job import JobFailure, JobState
from tests.support.builders import publish_sample
from tests.support.jobs import card_of


@pytest.fixture
def spec():
    return make_spec("demo", {})


def submitted(scope, spec) -> int:
    """The job that the demo shows."""
    job_id = demo_job(scope, spec)
    assert job_id is not None
    return job_id


def claim(session, job_id):
    return attempts.claim(session, job_id=job_id, attempt=1, owner="here:1:1")


def test_the_first_start_submits_the_harvest(session_scope, spec):
    job_id = submitted(session_scope, spec)
    assert card_of(session_scope, job_id).state is JobState.QUEUED


def test_a_second_start_follows_the_job_that_runs(session_scope, spec):
    assert demo_job(session_scope, spec) == demo_job(session_scope, spec)


def test_a_start_after_a_failure_resumes_the_job(session_scope, spec):
    job_id = submitted(session_scope, spec)
    with session_scope() as session:
        attempts.fail(session, claim(session, job_id), JobFailure(code="x", message="y"))
    assert demo_job(session_scope, spec) == job_id
    assert card_of(session_scope, job_id).attempt == 2


def test_a_start_after_the_harvest_was_deleted_makes_it_again(session_scope, spec):
    job_id = submitted(session_scope, spec)
    with session_scope() as session:
        attempts.succeed(session, claim(session, job_id), {})
    assert demo_job(session_scope, spec) not in {None, job_id}


def test_a_start_with_the_harvest_in_the_database_does_nothing(session_scope, spec):
    job_id = submitted(session_scope, spec)
    with session_scope() as session:
        sample = publish_sample(session, job_id=job_id)
        attempts.succeed(session, claim(session, job_id), {"harvest_id": sample.harvest_id})
    assert demo_job(session_scope, spec) is None
