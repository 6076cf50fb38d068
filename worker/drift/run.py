"""A drift from its description to the database."""

import hashlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32
from pydantic import JsonValue

from core.db.repositories import drift_material, drifts
from core.domain.align_jobs import DriftSae, DriftSpec
from core.domain.align_results import StoredPart
from core.domain.alignment import preference_name
from core.domain.job import spec_json
from core.domain.model import ModelKind, ModelSource
from core.domain.preference import PreferencePair, content_hash
from core.domain.views_drift import SamplePair, SamplingSettings
from core.errors import Conflict, Invalid
from worker.align.data.answers import draw_pairs
from worker.align.data.pairs import encode_pairs
from worker.align.data.sources import load_preferences
from worker.align.loading import load_saes
from worker.align.storage import canonical
from worker.drift.keeper import Keeper
from worker.drift.measure import DriftSubject, measure
from worker.drift.samples import choose_prompts, sample_pair
from worker.lm.load import LoadedModel, load_model
from worker.progress import JobContext
from worker.sae.load import check_fits
from worker.sae.model import SparseAutoencoder

FORMAT_VERSION = 1  # raised when the code gives other numbers for the same input


def run_drift(spec: DriftSpec, job: JobContext) -> dict[str, JsonValue]:
    """Compare an aligned model with its base and publish in one transaction.

    Both models are in memory. A finished drift with the same identity is not made again. What an
    attempt has read is kept every half minute, and another goes on from there, with the same
    result bit for bit.

    Returns:
        ``drift_id``, what was counted, and ``reused`` if the drift was there already.

    Raises:
        ModelMissing: the aligned model's folder is gone.
        Conflict: a harvest is of another model or SAE than those that were loaded.
        SaeMismatch, HookUnknown: an SAE does not fit the models.
        Cancelled: asked to stop.
    """
    began = time.monotonic()
    data = load_preferences(spec.data, data_dir=job.data_dir)
    pool = data.held_out or data.train
    if not pool:
        raise Invalid("The data hold no pair to read.", hint="Name a file with pairs.")
    pairs = draw_pairs(pool, spec.max_pairs, seed=0)
    subject = _load(spec, job)
    data_hash = content_hash(data.pairs)
    identity = _identity(spec, subject, data_hash)
    with job.scope() as session:
        drift_id = drifts.find_by_identity(session, identity)
        if drift_id is not None and spec.run_job_id is not None:
            drifts.set_run(session, drift_id, run_job_id=spec.run_job_id)
    reused = drift_id is not None
    if drift_id is None:
        drift_id = _measure_and_publish(
            spec, subject, job, pairs=pairs, pool=pool, data_hash=data_hash, identity=identity
        )
    return {
        "drift_id": drift_id,
        "reused": reused,
        "n_pairs": len(pairs),
        "seconds": round(time.monotonic() - began, 1),
    }


def _load(spec: DriftSpec, job: JobContext) -> DriftSubject:
    """Both models, the SAEs, and the rows that harvests keep of them."""
    job.progress(done=0, total=None, unit="models", phase="loading")
    folder = ModelSource(kind=ModelKind.FOLDER, location=spec.aligned_dir)
    base, aligned = (
        load_model(source, dtype=spec.dtype, device=spec.device, cache_dir=job.cache_dir)
        for source in (spec.model, folder)
    )
    job.check()
    saes = load_saes([sae.source for sae in spec.saes], base, cache_dir=job.cache_dir)
    for sae in saes:
        check_fits(sae, aligned)
    stored = [_stored(entry, sae, base, job) for entry, sae in zip(spec.saes, saes, strict=True)]
    return DriftSubject(
        base=base, aligned=aligned, entries=spec.saes, saes=saes, stored=tuple(stored)
    )


def _stored(
    entry: DriftSae, sae: SparseAutoencoder, base: LoadedModel, job: JobContext
) -> StoredPart | None:
    if entry.harvest_id is None:
        return None
    with job.scope() as session:
        part = drift_material.stored_part(session, entry.harvest_id, sae_id=entry.sae_id)
    for what, theirs, ours in (
        ("model", part.model_revision, base.info.revision),
        ("SAE", part.sae_revision, sae.info.revision),
    ):
        if theirs != ours:
            raise Conflict(
                f"Harvest {entry.harvest_id} is of another {what} than the one loaded for "
                f"{entry.sae_id}.",
                hint="Harvest again, or measure this SAE on answers only.",
            )
    return part


def _measure_and_publish(
    spec: DriftSpec,
    subject: DriftSubject,
    job: JobContext,
    *,
    pairs: Sequence[PreferencePair],
    pool: Sequence[PreferencePair],
    data_hash: str,
    identity: str,
) -> int:
    def read_tokens(
        harvest_id: int, numbers: Sequence[int]
    ) -> Mapping[int, Int32[np.ndarray, " pos"]]:
        with job.open_scope() as session:
            return drift_material.read_tokens(session, harvest_id, numbers)

    def told(done: int, total: int, unit: str, phase: str) -> None:
        job.check()
        job.progress(done=done, total=total, unit=unit, phase=phase)

    keeper = Keeper(job.work_dir, identity=identity)
    saes = measure(
        subject,
        encode_pairs(pairs, tokenizer=subject.base.tokenizer, lengths=spec.lengths),
        constraint=spec.constraint,
        batch_pairs=spec.batch_pairs,
        batch_contexts=spec.batch_contexts,
        read_tokens=read_tokens,
        told=told,
        keeper=keeper,
    )
    samples = _samples(spec, subject, pool, job)
    about = {
        "model_id": spec.model_id,
        "aligned_id": spec.aligned_id,
        "base_revision": subject.base.info.revision,
        "aligned_revision": subject.aligned.info.revision,
        "aligned_dir": spec.aligned_dir,
        "method": spec.method,
        "preference_name": preference_name(spec.data),
        "preference_hash": data_hash,
        "n_pairs": len(pairs),
        "dtype": spec.dtype.value,
    }
    with job.scope() as session:
        drift_id = drifts.publish(
            session,
            job_id=job.job_id,
            run_job_id=spec.run_job_id,
            identity=identity,
            about=about,
            sampling=_settings(spec) if samples else None,
            spec=spec_json(spec),
            saes=saes,
            samples=samples,
        )
    keeper.clear()
    return drift_id


def _samples(
    spec: DriftSpec, subject: DriftSubject, pool: Sequence[PreferencePair], job: JobContext
) -> list[SamplePair]:
    chosen = choose_prompts(pool, spec.sampling.n_prompts)
    found = []
    for position, pair in enumerate(chosen):
        job.check()
        job.progress(done=position, total=len(chosen), unit="prompts", phase="samples")
        found.append(
            sample_pair(
                pair,
                position=position,
                base=subject.base,
                aligned=subject.aligned,
                lengths=spec.lengths,
                sampling=spec.sampling,
            )
        )
    job.progress(done=len(chosen), total=len(chosen), unit="prompts", phase="samples")
    return found


def _settings(spec: DriftSpec) -> SamplingSettings:
    return SamplingSettings(**spec.sampling.model_dump())


def _identity(spec: DriftSpec, subject: DriftSubject, data_hash: str) -> str:
    """sha256 over everything that decides the result."""
    key = {
        "format": FORMAT_VERSION,
        "settings": spec.model_dump(
            mode="json",
            exclude={"run_job_id", "aligned_dir", "model", "device", "data", "saes"}
            | {"batch_pairs", "batch_contexts", "kind"},
        ),
        "models": [subject.base.info.revision, subject.aligned.info.revision],
        "saes": [
            [entry.sae_id, sae.info.revision, entry.harvest_id]
            for entry, sae in zip(subject.entries, subject.saes, strict=True)
        ],
        "data": data_hash,
    }
    return hashlib.sha256(canonical(key).encode()).hexdigest()
