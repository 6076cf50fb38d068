"""Connections of a worker: a frozen one gives up its locks."""

import threading
import time

import pytest

from core.db.repositories import attempts
from core.db.session import make_engine
from core.db.session import session_scope as make_scope
from core.domain.job import Claim
from core.errors import DatabaseUnavailable
from core.jobs import control
from core.jobs.engine import impatient
from core.jobs.recovery import release
from tests.support.jobs import job_spec


@pytest.fixture
def frozen_scope(database_url):
    """Transactions that the server ends when they sit still for a second."""
    engine = make_engine(impatient(database_url, seconds=1.0))
    yield make_scope(engine)
    engine.dispose()


def claimed(scope) -> Claim:
    """A job that is held."""
    with scope() as session:
        job_id = control.submit(session, job_spec())
        held = attempts.claim(session, job_id=job_id, attempt=1, owner="here:1:1")
    assert held is not None
    return held


def test_a_process_that_freezes_inside_a_transaction_does_not_hold_a_job(
    session_scope, frozen_scope
):
    held = claimed(session_scope)
    taken = []

    def take_over():
        with session_scope() as session:
            release(session, held)
            taken.append(time.monotonic())

    def freeze():
        with frozen_scope() as session:
            attempts.finish_item(session, held, key="late", result=1)
            thread = threading.Thread(target=take_over)
            thread.start()
            thread.join(20)

    with pytest.raises(DatabaseUnavailable):
        freeze()
    assert taken
    with session_scope() as session:
        assert attempts.finished_items(session, held.job_id) == {}


def test_a_handlers_own_transaction_may_sit_still(session_scope, frozen_scope):
    held = claimed(session_scope)
    with attempts.fenced(frozen_scope, held)() as session:
        attempts.finished_items(session, held.job_id)
        time.sleep(1.5)
        control.submit(session, job_spec())
