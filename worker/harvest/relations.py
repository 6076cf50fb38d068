"""What relates features to each other and to tokens, remembered so that a crash costs one SAE."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from core.domain.activation import LogitEffect, Neighbours
from core.domain.harvest import HarvestSpec
from worker.harvest.coactivation import coactivation
from worker.harvest.decoder_cosine import decoder_cosine
from worker.harvest.files import load_arrays, save_arrays
from worker.harvest.final_norm import final_norm, unembedding
from worker.harvest.logit_effect import logit_effect
from worker.harvest.one_pass import draws_for
from worker.harvest.prepare import Prepared
from worker.harvest.state import SaeState
from worker.memory import memory_errors
from worker.progress import JobContext
from worker.sae.model import SparseAutoencoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """Neighbours and logit effect of every feature of one SAE."""

    coactivation: Neighbours
    support: Int32[np.ndarray, "feature k"]
    cosine: Neighbours
    logits: LogitEffect


def find_relations(
    spec: HarvestSpec, prepared: Prepared, states: list[SaeState], job: JobContext
) -> list[Relations]:
    """Relations of every SAE, those of an earlier attempt from disk."""
    found = []
    for place, state in enumerate(states):
        job.check()
        job.progress(done=place, total=len(states), unit="SAEs", phase="neighbours")
        found.append(_remembered(spec, prepared, state, job=job, place=place))
    return found


def _remembered(
    spec: HarvestSpec,
    prepared: Prepared,
    state: SaeState,
    *,
    job: JobContext,
    place: int,
) -> Relations:
    key = f"relations-{place:03d}"
    path = job.work_dir / f"{key}.npz"
    arrays = load_arrays(path, str(job.finished_items().get(key)))
    if arrays is None:
        with memory_errors("comparing features"):
            arrays = _arrays(_compute(spec, prepared, prepared.saes[place], state))
        job.finish_item(key, save_arrays(path, arrays))
        job.tell("harvest_neighbours", sae_id=spec.saes[place].sae_id)
    return _from_arrays(arrays)


def _compute(
    spec: HarvestSpec, prepared: Prepared, sae: SparseAutoencoder, state: SaeState
) -> Relations:
    store, model = prepared.store, prepared.loaded.model
    drawn = draws_for(spec, store.facts.n_contexts).coactivation
    together = coactivation(
        state.firing,
        d_sae=sae.info.d_sae,
        n_tokens=store.n_scored(drawn) - _outliers_in(state, drawn, spec.context_size),
        k=spec.n_neighbours,
        context_size=spec.context_size,
    )
    if spec.n_logits:
        logits = logit_effect(
            sae.W_dec, norm=final_norm(model), unembedding=unembedding(model), k=spec.n_logits
        )
    else:
        logits = _no_logits(sae.info.d_sae)
    return Relations(
        coactivation=together.neighbours,
        support=together.support,
        cosine=decoder_cosine(sae.W_dec, spec.n_neighbours),
        logits=logits,
    )


def _outliers_in(state: SaeState, drawn: Int64[np.ndarray, " sampled"], context_size: int) -> int:
    """Outliers in the contexts that were drawn."""
    return int(np.isin(state.outliers // context_size, drawn).sum())


def _no_logits(d_sae: int) -> LogitEffect:
    ids, values = np.empty((d_sae, 0), np.int32), np.empty((d_sae, 0), np.float32)
    return LogitEffect(top_ids=ids, top_values=values, bottom_ids=ids, bottom_values=values)


def _arrays(relations: Relations) -> dict[str, np.ndarray]:
    logits = relations.logits
    return {
        "coactivation": relations.coactivation.index,
        "phi": relations.coactivation.value,
        "support": relations.support,
        "neighbour": relations.cosine.index,
        "cosine": relations.cosine.value,
        "top_ids": logits.top_ids,
        "top_values": logits.top_values,
        "bottom_ids": logits.bottom_ids,
        "bottom_values": logits.bottom_values,
    }


def _from_arrays(arrays: dict[str, np.ndarray]) -> Relations:
    return Relations(
        coactivation=Neighbours(index=arrays["coactivation"], value=arrays["phi"]),
        support=arrays["support"],
        cosine=Neighbours(index=arrays["neighbour"], value=arrays["cosine"]),
        logits=LogitEffect(
            top_ids=arrays["top_ids"],
            top_values=arrays["top_values"],
            bottom_ids=arrays["bottom_ids"],
            bottom_values=arrays["bottom_values"],
        ),
    )
