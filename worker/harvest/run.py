"""A harvest from its description to the database."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import JsonValue

from core.db.repositories import catalog, harvests
from core.domain.activation import ContextRows, SaeHarvest
from core.domain.harvest import HarvestSpec
from worker.harvest.assemble import choose_contexts, sae_harvest, stored_contexts
from worker.harvest.one_pass import OnePass
from worker.harvest.prepare import Prepared, prepare
from worker.harvest.relations import Relations, find_relations
from worker.harvest.state import SaeState
from worker.lm.vocabulary import vocabulary
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
            harvest_id = _publish(spec, prepared, states, relations, job)
        else:
            harvest_id = existing
            job.log(f"Harvest {existing} is this very harvest; it is used as it is.")
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


def _publish(
    spec: HarvestSpec,
    prepared: Prepared,
    states: Sequence[SaeState],
    relations: Sequence[Relations],
    job: JobContext,
) -> int:
    job.progress(done=0, total=len(states), unit="SAEs", phase="publishing")
    facts = prepared.store.facts
    kept = [choose_contexts(spec, state) for state in states]
    contexts = stored_contexts(spec, prepared.store, kept)
    model_words = vocabulary(prepared.loaded, spec.model_id)
    began = time.monotonic()
    with job.scope() as session:
        model_pk = catalog.save_model(
            session,
            model_id=spec.model_id,
            source=spec.model,
            info=prepared.loaded.info,
            vocabulary=model_words,
        )
        sae_pks = [
            catalog.save_sae(
                session,
                model_id=spec.model_id,
                sae_id=entry.sae_id,
                source=entry.source,
                info=sae.info,
                record=sae.record,
            )
            for entry, sae in zip(spec.saes, prepared.saes, strict=True)
        ]
        harvest_id = harvests.publish(
            session,
            job_id=job.job_id,
            model_pk=model_pk,
            spec=spec,
            spec_hash=prepared.spec_hash,
            corpus_hash=facts.corpus_hash,
            n_contexts=facts.n_contexts,
            n_tokens=facts.n_tokens,
            n_scored=facts.n_scored,
            contexts=contexts,
            saes=_one_by_one(
                spec,
                prepared,
                sae_pks=sae_pks,
                states=states,
                kept=kept,
                relations=relations,
                job=job,
            ),
        )
    n_features = sum(sae.info.d_sae for sae in prepared.saes)
    rate = n_features / max(time.monotonic() - began, 1e-9)
    job.log(f"Harvest {harvest_id}: {n_features:,} features written, {rate:,.0f} a second.")
    return harvest_id


def _one_by_one(
    spec: HarvestSpec,
    prepared: Prepared,
    *,
    sae_pks: Sequence[int],
    states: Sequence[SaeState],
    kept: Sequence[ContextRows],
    relations: Sequence[Relations],
    job: JobContext,
) -> Iterator[tuple[int, SaeHarvest]]:
    """One SAE in memory at a time."""
    rows = zip(sae_pks, states, kept, relations, strict=True)
    for place, (sae_pk, state, contexts, related) in enumerate(rows):
        job.check()
        yield (
            sae_pk,
            sae_harvest(spec, prepared.store, state=state, kept=contexts, relations=related),
        )
        job.progress(done=place + 1, total=len(states), unit="SAEs", phase="publishing")


def _clear(work_dir: Path) -> None:
    """Drop what only an unfinished harvest needs."""
    for name in ("corpus", "shards"):
        shutil.rmtree(work_dir / name, ignore_errors=True)
    for path in work_dir.glob("relations-*.npz"):
        path.unlink(missing_ok=True)
