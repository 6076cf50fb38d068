"""Drifts: published whole, listed, found from a run or a feature, and removed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from sqlalchemy import delete as delete_rows
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from core.db.base import plain_table
from core.db.copy import copy_rows
from core.db.models.alignment import Drift, DriftEvidence, DriftFeature, DriftPart, DriftSample
from core.db.models.harvest import Harvest, HarvestSae
from core.db.models.job import Job
from core.db.packing.rows import pack_random, pack_rows
from core.domain.align_results import DriftSaeResult, PlaceValues
from core.domain.views_drift import (
    DriftCard,
    DriftSae,
    Place,
    PlaceFacts,
    SamplePair,
    SamplingSettings,
)
from core.errors import NotFound

_PLACE = ("base_{}", "aligned_{}", "base_density_{}", "aligned_density_{}", "cosine_{}")
_COLUMNS = (
    *("drift_sae_id", "index"),
    *(name.format(place.value) for place in Place for name in _PLACE),
    *("treatment", "density"),
)


def publish(
    session: Session,
    *,
    job_id: int | None,
    run_job_id: int | None,
    identity: str,
    about: Mapping[str, Any],
    sampling: SamplingSettings | None,
    spec: dict[str, JsonValue],
    saes: Sequence[DriftSaeResult],
    samples: Sequence[SamplePair],
) -> int:
    """Store a finished drift and return its id; all of it or nothing, in this transaction.

    Args:
        session: the transaction.
        job_id: the job that measured it.
        run_job_id: the alignment run; kept only if it is still there.
        identity: sha256 over everything that decides the result.
        about: model_id, aligned_id, base_revision, aligned_revision, aligned_dir, method,
            preference_name, preference_hash, n_pairs and dtype.
        sampling: how samples were drawn; None without samples.
        spec: what was asked for.
        saes: what each SAE's features did.
        samples: generations side by side.
    """
    row = insert(Drift).values(
        job_id=job_id,
        run_job_id=_if_there(session, run_job_id),
        identity=identity,
        sampling=None if sampling is None else _sampling_json(sampling),
        spec=spec,
        **about,
    )
    drift_id = session.execute(row.returning(Drift.id)).scalar_one()
    for sae in saes:
        _publish_sae(session, drift_id, sae)
    if samples:
        session.execute(insert(DriftSample), [_sample_row(drift_id, pair) for pair in samples])
    session.execute(text("ANALYZE drift_sae, drift_feature, drift_evidence"))
    return drift_id


def find_by_identity(session: Session, identity: str) -> int | None:
    """The drift with exactly this result, if there is one."""
    query = select(Drift.id).where(Drift.identity == identity)
    return session.execute(query).scalar_one_or_none()


def set_run(session: Session, drift_id: int, *, run_job_id: int) -> None:
    """Let a drift belong to a run whose result is the same, if it belongs to none (any more)."""
    row = session.get(Drift, drift_id)
    if row is not None and row.run_job_id is None:
        row.run_job_id = run_job_id


def list_drifts(
    session: Session, *, run_job_id: int | None = None, model_id: str | None = None
) -> tuple[DriftCard, ...]:
    """Drifts, the newest first; those of one run or of one base model where asked for."""
    query = select(Drift).order_by(Drift.id.desc())
    if run_job_id is not None:
        query = query.where(Drift.run_job_id == run_job_id)
    if model_id is not None:
        query = query.where(Drift.model_id == model_id)
    return cards_of(session, session.execute(query).scalars().all())


def newest_of_run(session: Session, run_job_id: int) -> DriftCard | None:
    """The newest drift of a run; None while there is none."""
    found = list_drifts(session, run_job_id=run_job_id)
    return found[0] if found else None


def get_drift(session: Session, drift_id: int) -> DriftCard:
    """One drift.

    Raises:
        NotFound: no such drift.
    """
    row = session.get(Drift, drift_id) if 0 < drift_id < 2**31 else None
    if row is None:
        raise NotFound(f"There is no drift {drift_id}.", hint="It may have been deleted.")
    return cards_of(session, [row])[0]


def delete(session: Session, drift_id: int) -> None:
    """Remove a drift with its features and samples.

    Raises:
        NotFound: no such drift.
    """
    get_drift(session, drift_id)
    session.execute(delete_rows(Drift).where(Drift.id == drift_id))


def cards_of(session: Session, rows: Sequence[Drift]) -> tuple[DriftCard, ...]:
    """Cards of drifts, in their order."""
    ids = [row.id for row in rows]
    parts = _parts(session, ids)
    counted = (
        select(DriftSample.drift_id, func.count())
        .where(DriftSample.drift_id.in_(ids))
        .group_by(DriftSample.drift_id)
    )
    samples = {row[0]: row[1] for row in session.execute(counted)}
    return tuple(
        DriftCard(
            drift_id=row.id,
            job_id=row.job_id,
            run_job_id=row.run_job_id,
            model_id=row.model_id,
            aligned_id=row.aligned_id,
            base_revision=row.base_revision,
            aligned_revision=row.aligned_revision,
            aligned_dir=row.aligned_dir,
            method=row.method,
            preference_name=row.preference_name,
            preference_hash=row.preference_hash,
            n_pairs=row.n_pairs,
            dtype=row.dtype,
            sampling=sampling_of(row),
            n_samples=samples.get(row.id, 0),
            saes=tuple(parts.get(row.id, [])),
            finished_at=row.finished_at,
        )
        for row in rows
    )


def _if_there(session: Session, job_id: int | None) -> int | None:
    return session.execute(select(Job.id).where(Job.id == job_id)).scalar_one_or_none()


def sampling_of(row: Drift) -> SamplingSettings | None:
    """How a drift's samples were drawn; None without samples."""
    stored: Any = row.sampling
    return None if stored is None else SamplingSettings(**stored)


def _parts(session: Session, ids: Sequence[int]) -> dict[int, list[DriftSae]]:
    query = (
        select(DriftPart, HarvestSae.harvest_id, Harvest.corpus_name)
        .outerjoin(HarvestSae, HarvestSae.id == DriftPart.part_id)
        .outerjoin(Harvest, Harvest.id == HarvestSae.harvest_id)
        .where(DriftPart.drift_id.in_(ids))
        .order_by(DriftPart.layer, DriftPart.id)
    )
    parts: dict[int, list[DriftSae]] = {}
    for part, harvest_id, corpus_name in session.execute(query):
        stored: Any = part.places
        parts.setdefault(part.drift_id, []).append(
            DriftSae(
                sae_id=part.sae_id,
                hook_name=part.hook_name,
                layer=part.layer,
                d_sae=part.d_sae,
                revision=part.revision,
                harvest_id=harvest_id,
                corpus_name=corpus_name or "",
                n_moved=part.n_moved,
                places={
                    place: PlaceFacts(**stored[place.value])
                    for place in Place
                    if place.value in stored
                },
            )
        )
    return parts


def _publish_sae(session: Session, drift_id: int, sae: DriftSaeResult) -> None:
    d_sae = len(sae.treatment)
    density = np.max([_density(values) for values in sae.places.values()], axis=0)
    shared, random = (b"", iter(())) if sae.rows is None else pack_random(sae.rows.random)
    row = insert(DriftPart).values(
        drift_id=drift_id,
        part_id=sae.part_id,
        sae_id=sae.sae_id,
        revision=sae.revision,
        hook_name=sae.hook_name,
        layer=sae.layer,
        d_sae=d_sae,
        n_moved=int(np.count_nonzero(density)),
        places={place.value: _facts_json(values.facts) for place, values in sae.places.items()},
        random_contexts=shared,
    )
    part_id = session.execute(row.returning(DriftPart.id)).scalar_one()
    rows = zip(
        [part_id] * d_sae,
        range(d_sae),
        *_place_columns(sae),
        [treatment.value for treatment in sae.treatment],
        density.tolist(),
        strict=True,
    )
    copy_rows(session, plain_table(DriftFeature), columns=_COLUMNS, rows=rows)
    if sae.rows is not None:
        evidence = zip(
            [part_id] * d_sae, range(d_sae), pack_rows(sae.rows.contexts), random, strict=True
        )
        columns = ("drift_sae_id", "index", "contexts", "random")
        copy_rows(session, plain_table(DriftEvidence), columns=columns, rows=evidence)


def _place_columns(sae: DriftSaeResult) -> Iterator[list[float | None]]:
    for place in Place:
        values = sae.places.get(place)
        if values is None:
            nothing: list[float | None] = [None] * len(sae.treatment)
            yield from [nothing] * len(_PLACE)
            continue
        yield from (
            column.tolist()
            for column in (
                *(values.base_mean, values.aligned_mean),
                *(values.base_density, values.aligned_density),
            )
        )
        yield [None if value != value else value for value in values.cosine.tolist()]


def _density(values: PlaceValues) -> npt.NDArray[np.float64]:
    larger: npt.NDArray[np.float64] = np.maximum(values.base_density, values.aligned_density)
    return larger


def _facts_json(facts: PlaceFacts) -> dict[str, float | int | None]:
    return {name: getattr(facts, name) for name in PlaceFacts.__dataclass_fields__}


def _sampling_json(sampling: SamplingSettings) -> dict[str, JsonValue]:
    return {name: getattr(sampling, name) for name in SamplingSettings.__dataclass_fields__}


def _sample_row(drift_id: int, pair: SamplePair) -> dict[str, Any]:
    turns = {
        side: [{"role": t.role.value, "content": t.content} for t in getattr(pair, side)]
        for side in ("prompt", "chosen", "rejected")
    }
    return {
        "drift_id": drift_id,
        "position": pair.position,
        "row": pair.row,
        **turns,
        "n_prompt_tokens": pair.n_prompt_tokens,
        "base_text": pair.base.text.replace("\0", ""),
        "base_tokens": list(pair.base.token_ids),
        "base_ended": pair.base.ended,
        "aligned_text": pair.aligned.text.replace("\0", ""),
        "aligned_tokens": list(pair.aligned.token_ids),
        "aligned_ended": pair.aligned.ended,
    }
