"""A finished pass into the database: all of it or nothing, one SAE in memory at a time."""

import time
from collections.abc import Iterator, Sequence

from core.db.repositories import catalog, harvests
from core.domain.activation import ContextRows, SaeHarvest
from core.domain.harvest import HarvestSpec
from worker.harvest.assemble import choose_contexts, sae_harvest, stored_contexts
from worker.harvest.prepare import Prepared
from worker.harvest.relations import Relations
from worker.harvest.state import SaeState
from worker.lm.vocabulary import vocabulary
from worker.progress import JobContext


def publish(
    spec: HarvestSpec,
    prepared: Prepared,
    states: Sequence[SaeState],
    relations: Sequence[Relations],
    job: JobContext,
) -> int:
    """Write model, SAEs, contexts and every SAE's features; returns the harvest's id."""
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
    job.tell("harvest_written", harvest_id=harvest_id, n_features=n_features, rate=round(rate))
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
        max_norm = prepared.norm_limits.get(prepared.saes[place].info.hook_name)
        if len(state.outliers) and max_norm is not None:
            sae_id, n = spec.saes[place].sae_id, len(state.outliers)
            job.tell("harvest_outliers", n=n, sae_id=sae_id, limit=round(max_norm))
        yield (
            sae_pk,
            sae_harvest(
                spec,
                prepared.store,
                state=state,
                kept=contexts,
                relations=related,
                max_norm=max_norm,
            ),
        )
        job.progress(done=place + 1, total=len(states), unit="SAEs", phase="publishing")
