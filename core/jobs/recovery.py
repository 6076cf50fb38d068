"""What follows when an attempt ends without writing how: another attempt, or a clear failure.

A job is tried again a limited number of times; a finished item sets the count back to zero.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from sqlalchemy.orm import Session

from core.db.repositories import attempts, job_queue, jobs
from core.db.session import SessionScope
from core.domain.job import Claim, EventKind, JobFailure, JobState
from core.domain.job_lines import line
from core.errors import ClaimLost
from core.jobs.engine import enqueue
from core.jobs.owner import Owner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an attempt ended without writing how, and how many such ends in a row are borne."""

    code: str
    message: str
    hint: str
    limit: int


class Crash(Enum):
    """The ways in which an attempt can die."""

    OUT_OF_MEMORY = Cause(
        code="out_of_memory",
        message="The system ran out of memory and stopped the job's process.",
        hint="Use fewer batch_tiles or SAEs, a shorter context, or a machine with more memory; "
        "then resume.",
        limit=2,
    )
    KILLED = Cause(
        code="runner_killed",
        message="The job's process was killed from outside again and again.",
        hint="Look for what kills it (a memory limit, a scheduler, a person); then resume.",
        limit=10,
    )
    CRASHED = Cause(
        code="runner_crashed",
        message="The job's process crashed again and again.",
        hint="The worker's log holds its last words; then resume.",
        limit=3,
    )
    WORKER_LOST = Cause(
        code="worker_lost",
        message="The workers that ran the job died again and again.",
        hint="Look at the workers' logs and memory; then resume.",
        limit=10,
    )
    DATABASE_LOST = Cause(
        code="database_unavailable",
        message="The database was away again and again while the job ran.",
        hint="Look at the database's log and disk; then resume.",
        limit=10,
    )


def recover(session: Session, claim: Claim, crash: Crash) -> JobState:
    """Decide what follows the death of the attempt that holds the claim; returns the new state."""
    if attempts.renew(session, claim):
        attempts.cancelled(session, claim)
        return JobState.CANCELLED
    crashes = attempts.count_crash(session, claim)
    if crashes >= crash.value.limit:
        cause = crash.value
        error = JobFailure(code=cause.code, message=cause.message, hint=cause.hint)
        attempts.fail(session, claim, error)
        return JobState.FAILED
    told = line("attempt_ended_early", "warning", attempt=claim.attempt, code=crash.value.code)
    attempts.append_events(session, claim, [(EventKind.LOG, datetime.now(UTC), told)])
    release(session, claim)
    return JobState.QUEUED


def release(session: Session, claim: Claim) -> None:
    """Give an unfinished job back, to be started again as its next attempt."""
    if attempts.renew(session, claim):
        attempts.cancelled(session, claim)
        return
    attempt = jobs.requeue(session, claim.job_id, fresh=False)
    queue = jobs.queue_of_job(session, claim.job_id)
    enqueue(session, queue=queue, job_id=claim.job_id, attempt=attempt)


def recover_dead_owners(scope: SessionScope) -> int:
    """Take over the jobs of processes that ran on this machine and are gone; returns how many."""
    with scope() as session:
        held = attempts.list_claims(session)
    gone = [claim for claim, owner in held if Owner.parse(owner).is_gone()]
    return sum(_take_over(scope, claim.job_id, claim.attempt) for claim in gone)


def recover_orphans(scope: SessionScope) -> int:
    """Take over active jobs that the engine no longer knows; returns how many."""
    with scope() as session:
        orphans = job_queue.list_orphans(session)
    return sum(_take_over(scope, job_id, attempt) for job_id, attempt in orphans)


def recover_stalled(scope: SessionScope, entries: Iterable[tuple[int, int, int]]) -> int:
    """Take over jobs whose worker's heartbeat has stopped; returns how many.

    Args:
        scope: makes transactions.
        entries: entry of the engine's queue, job and attempt.
    """
    return sum(
        _take_over(scope, job_id, attempt, entry=entry) for entry, job_id, attempt in entries
    )


def _take_over(scope: SessionScope, job_id: int, attempt: int, *, entry: int | None = None) -> bool:
    """One job whose worker is dead; False if somebody else was faster."""
    try:
        with scope() as session:
            current = attempts.lock_attempt(session, job_id=job_id, attempt=attempt)
            engine_entry = entry if entry is not None else jobs.engine_job_of(session, job_id)
            retired = engine_entry is not None and job_queue.retire(session, engine_entry)
            if current is None or (entry is not None and not retired):
                return False
            state, claim = current
            if state is JobState.QUEUED:  # fetched from the queue, never claimed
                again = jobs.requeue(session, job_id, fresh=False)
                queue = jobs.queue_of_job(session, job_id)
                enqueue(session, queue=queue, job_id=job_id, attempt=again)
            else:
                state = recover(session, claim, Crash.WORKER_LOST)
            logger.warning("Attempt %d of job %d lost its worker: %s.", attempt, job_id, state)
            return True
    except ClaimLost:
        return False
