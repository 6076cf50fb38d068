"""A harvest from its description to the database."""

import shutil
import time
from pathlib import Path

from pydantic import JsonValue

from core.db.repositories import harvests
from core.domain.harvest import HarvestSpec
from worker.harvest.one_pass import OnePass
from worker.harvest.prepare import Prepared, prepare
from worker.harvest.publish import publish
from worker.harvest.relations import find_relations
from worker.memory import memory_errors
from worker.progress import JobContext


def run_harvest(spec: HarvestSpec, job: JobContext) -> dict[str, JsonValue]:
    """Harvest every SAE of ``spec`` in one pass and publish the result in one transaction.

    A finished harvest with the same spec hash is not made again. After a crash the work goes on
    from the last saved shard, with the same result bit for bit.

    Returns:
        ``harvest_id``, what was counted, and ``reused`` if the harvest was there already.

    Raises:
        SaeMismatch, CorpusEmpty, ModelMissing: before the pass begins.
        OutOfMemory, DiskFull: resume when there is room.
        Cancelled: asked to stop; the shards saved so far are kept.
    """
    began = time.monotonic()
    with memory_errors("harvesting"):
        prepared = prepare(spec, job)
        existing = _finished(prepared, job)
        if existing is None:
            states = OnePass(spec, prepared, job).run()
            relations = find_relations(spec, prepared, states, job)
            harvest_id = publish(spec, prepared, states, relations, job)
        else:
            harvest_id = existing
            job.tell("harvest_known", harvest_id=existing)
    _clear(job.work_dir)
    facts = prepared.store.facts
    return {
        "harvest_id": harvest_id,
        "reused": existing is not None,
        "spec_hash": prepared.spec_hash,
        "n_contexts": facts.n_contexts,
        "n_tokens": facts.n_tokens,
        "n_scored": facts.n_scored,
        "seconds": round(time.monotonic() - began, 1),
    }


def _finished(prepared: Prepared, job: JobContext) -> int | None:
    with job.scope() as session:
        return harvests.find_finished(session, prepared.spec_hash)


def _clear(work_dir: Path) -> None:
    """Drop what only an unfinished harvest needs."""
    for name in ("corpus", "shards"):
        shutil.rmtree(work_dir / name, ignore_errors=True)
    for path in work_dir.glob("relations-*.npz"):
        path.unlink(missing_ok=True)
