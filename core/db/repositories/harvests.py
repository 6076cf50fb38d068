"""Harvests: published whole, found by what decides their result, deleted with all they hold."""

from collections.abc import Iterable, Iterator

import numpy as np
from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.base import plain_table
from core.db.copy import copy_rows
from core.db.models.catalog import Model, ModelVocabulary
from core.db.models.feature import Feature, FeatureEvidence
from core.db.models.harvest import Harvest, HarvestContext, HarvestSae
from core.db.packing.rows import pack_random, pack_rows
from core.db.packing.summary import pack_summaries
from core.db.packing.words import pack_contexts, unpack_tokens
from core.db.repositories.cards import harvest_info, select_harvests
from core.domain.activation import SaeHarvest, StoredContexts
from core.domain.corpus import corpus_name
from core.domain.harvest import HarvestInfo, HarvestSpec
from core.errors import Conflict, NotFound

_NARROW = (
    *("harvest_sae_id", "index", "peak_token", "n_active", "n_contexts", "density"),
    *("sum_activation", "max_activation", "mean_activation", "peak_text"),
)
_WIDE = ("harvest_sae_id", "index", "summary", "contexts", "random")


def find_finished(session: Session, spec_hash: str) -> int | None:
    """The harvest with exactly this result, if there is one."""
    query = select(Harvest.id).where(Harvest.spec_hash == spec_hash)
    return session.execute(query).scalar_one_or_none()


def list_harvests(session: Session, *, model_id: str | None = None) -> tuple[HarvestInfo, ...]:
    """All harvests, or those of one model, the newest first."""
    query = select_harvests()
    if model_id is not None:
        query = query.where(Model.model_id == model_id)
    return tuple(harvest_info(row) for row in session.execute(query))


def get_spec(session: Session, harvest_id: int) -> HarvestSpec:
    """What a harvest was asked to do.

    Raises:
        NotFound: no such harvest.
    """
    query = select(Harvest.spec).where(Harvest.id == harvest_id)
    spec = session.execute(query).scalar_one_or_none()
    if spec is None:
        raise _missing(harvest_id)
    return HarvestSpec.model_validate(spec)


def delete(session: Session, harvest_id: int) -> None:
    """Remove a harvest with everything of it; models and SAEs stay.

    Raises:
        NotFound: no such harvest.
    """
    query = delete_rows(Harvest).where(Harvest.id == harvest_id).returning(Harvest.id)
    if session.execute(query).scalar_one_or_none() is None:
        raise _missing(harvest_id)


def publish(
    session: Session,
    *,
    job_id: int | None,
    model_pk: int,
    spec: HarvestSpec,
    spec_hash: str,
    corpus_hash: str,
    n_contexts: int,
    n_tokens: int,
    n_scored: int,
    contexts: StoredContexts,
    saes: Iterable[tuple[int, SaeHarvest]],
) -> int:
    """Store a finished harvest and return its id; all of it or nothing, in this transaction.

    Args:
        session: the transaction.
        job_id: the job that ran it.
        model_pk: key of the model, from catalog.save_model.
        spec: what was asked for.
        spec_hash: names everything that decides the result.
        corpus_hash: sha256 over the corpus's documents.
        n_contexts: contexts read.
        n_tokens: tokens read.
        n_scored: tokens that count.
        contexts: those that a feature keeps.
        saes: key of each SAE, from catalog.save_sae, with what its features did; read one at a
            time, so that a lazy iterable holds one in memory.

    Raises:
        Conflict: a harvest with this spec_hash is there already.
    """
    harvest_id = _insert_harvest(
        session,
        {
            "job_id": job_id,
            "model_pk": model_pk,
            "spec": spec.model_dump(mode="json"),
            "spec_hash": spec_hash,
            "corpus_name": corpus_name(spec.corpus),
            "corpus_hash": corpus_hash,
            "context_size": spec.context_size,
            "n_contexts": n_contexts,
            "n_tokens": n_tokens,
            "n_scored": n_scored,
            "seed": spec.seed,
            "sources": list(contexts.sources),
        },
    )
    _copy_contexts(session, harvest_id, contexts)
    folded = _folded_tokens(session, model_pk)
    for sae_pk, harvest in saes:
        _publish_sae(session, harvest_id, sae_pk, harvest=harvest, folded=folded)
    session.execute(text("ANALYZE harvest_sae, feature, feature_evidence, context"))
    return harvest_id


def _missing(harvest_id: int) -> NotFound:
    return NotFound(
        f"No harvest {harvest_id}.", hint="It may have been deleted; list the harvests."
    )


def _insert_harvest(session: Session, values: dict[str, object]) -> int:
    try:
        with session.begin_nested():
            query = insert(Harvest).values(values).returning(Harvest.id)
            return session.execute(query).scalar_one()
    except IntegrityError as error:
        raise Conflict(
            "A harvest with the same model, SAEs, corpus and settings is there already.",
            hint="Open that one, or delete it first.",
        ) from error


def _copy_contexts(session: Session, harvest_id: int, contexts: StoredContexts) -> None:
    rows = zip(
        [harvest_id] * len(contexts.context_index),
        contexts.context_index.tolist(),
        contexts.document.tolist(),
        contexts.start.tolist(),
        contexts.source_index.tolist(),
        pack_contexts(contexts),
        strict=True,
    )
    columns = ("harvest_id", "context_index", "document", "start", "source_index", "tokens")
    copy_rows(session, plain_table(HarvestContext), columns=columns, rows=rows)


def _publish_sae(
    session: Session,
    harvest_id: int,
    sae_pk: int,
    *,
    harvest: SaeHarvest,
    folded: tuple[str, ...],
) -> None:
    shared, random = pack_random(harvest.random)
    query = insert(HarvestSae).values(
        harvest_id=harvest_id,
        sae_pk=sae_pk,
        n_features=len(harvest.n_active),
        n_dead=int(np.count_nonzero(harvest.n_active == 0)),
        n_scored=harvest.n_scored,
        max_norm=harvest.max_norm,
        n_active=int(harvest.n_active.sum()),
        random_contexts=shared,
    )
    part_id = session.execute(query.returning(HarvestSae.id)).scalar_one()
    rows = _narrow_rows(part_id, harvest, folded)
    copy_rows(session, plain_table(Feature), columns=_NARROW, rows=rows)
    n = len(harvest.n_active)
    wide = zip(
        [part_id] * n,
        range(n),
        pack_summaries(harvest),
        pack_rows(harvest.contexts),
        random,
        strict=True,
    )
    copy_rows(session, plain_table(FeatureEvidence), columns=_WIDE, rows=wide)


def _narrow_rows(
    part_id: int, harvest: SaeHarvest, folded: tuple[str, ...]
) -> Iterator[tuple[object, ...]]:
    """Values of the narrow table; density and mean are 0 where nothing fired."""
    n = len(harvest.n_active)
    total = harvest.sum_activation.astype(np.float64)
    mean = np.divide(total, harvest.n_active, out=np.zeros(n), where=harvest.n_active > 0)
    peaks = harvest.peak_token.tolist()
    return zip(
        [part_id] * n,
        range(n),
        peaks,
        harvest.n_active.tolist(),
        harvest.n_contexts.tolist(),
        (harvest.n_active / max(harvest.n_scored, 1)).tolist(),
        total.tolist(),
        harvest.max_activation.astype(np.float64).tolist(),
        mean.tolist(),
        [folded[peak] if 0 <= peak < len(folded) else "" for peak in peaks],
        strict=True,
    )


def _folded_tokens(session: Session, model_pk: int) -> tuple[str, ...]:
    """Text of every token with its case folded, as lists are searched by it."""
    query = select(ModelVocabulary.tokens).where(ModelVocabulary.model_pk == model_pk)
    tokens = unpack_tokens(session.execute(query).scalar_one())
    return tuple(fold(token.decode("utf-8", errors="replace")) for token in tokens)


def fold(text: str) -> str:
    r"""Text as the token filter compares it; PostgreSQL's text cannot hold a NUL.

    >>> fold("Straße\0")
    'strasse'
    """
    return text.casefold().replace("\0", "")
