"""A contrast from its description to the database."""

import hashlib
import time
from collections.abc import Sequence

from pydantic import JsonValue

from core.db.repositories import contrasts
from core.domain.align_jobs import ContrastSpec
from core.domain.align_results import ContrastSaeResult
from core.domain.alignment import preference_name
from core.domain.job import spec_json
from core.domain.preference import content_hash
from core.errors import Invalid
from worker.align.data.answers import AnswerRows, draw_pairs, read_answers
from worker.align.data.pairs import TokenPair, chunks, encode_pairs
from worker.align.data.sources import check_enough, load_preferences
from worker.align.loading import load_saes
from worker.align.storage import canonical
from worker.contrast.measure import PairContrast
from worker.lm.load import LoadedModel, load_model
from worker.progress import JobContext
from worker.sae.model import SparseAutoencoder

FORMAT_VERSION = 1  # raised when the code gives other numbers for the same input


def run_contrast(spec: ContrastSpec, job: JobContext) -> dict[str, JsonValue]:
    """Read the training pairs' answers through every SAE and publish in one transaction.

    A finished contrast with the same identity is not made again. Nothing is kept of an attempt
    that ends early: one pass over a few hundred pairs is cheap to redo.

    Returns:
        ``contrast_id``, what was counted, and ``reused`` if the contrast was there already.

    Raises:
        Invalid: no pair to read, or activations that are not finite.
        SaeMismatch, HookUnknown: an SAE does not fit the model.
        Cancelled: asked to stop.
    """
    began = time.monotonic()
    data = load_preferences(spec.data, data_dir=job.data_dir)
    check_enough(data, len(data.train))
    pairs = draw_pairs(data.train, spec.max_pairs, seed=spec.seed)
    job.progress(done=0, total=None, unit="models", phase="loading")
    loaded = load_model(spec.model, dtype=spec.dtype, device=spec.device, cache_dir=job.cache_dir)
    saes = load_saes([sae.source for sae in spec.saes], loaded, cache_dir=job.cache_dir)
    data_hash = content_hash(data.pairs)
    identity = _identity(spec, loaded, saes, pairs=[data_hash, content_hash(pairs)])
    with job.scope() as session:
        contrast_id = contrasts.find_by_identity(session, identity)
    reused = contrast_id is not None
    if contrast_id is None:
        encoded = encode_pairs(pairs, tokenizer=loaded.tokenizer, lengths=spec.lengths)
        found = _Measured(spec, saes)
        found.read(encoded, loaded, job)
        contrast_id = _publish(
            spec,
            job,
            loaded=loaded,
            found=found,
            identity=identity,
            data_hash=data_hash,
        )
    return {
        "contrast_id": contrast_id,
        "reused": reused,
        "n_pairs": len(pairs),
        "n_refused": len(data.rejected),
        "seconds": round(time.monotonic() - began, 1),
    }


class _Measured:
    """The contrasts of all SAEs while pairs go by."""

    def __init__(self, spec: ContrastSpec, saes: Sequence[SparseAutoencoder]) -> None:
        self.saes = saes
        self.parts = [PairContrast(sae) for sae in saes]
        self._batch = spec.batch_pairs
        self.n_pairs = self.n_chosen = self.n_rejected = 0

    def read(self, pairs: Sequence[TokenPair], loaded: LoadedModel, job: JobContext) -> None:
        """Run all pairs through the model, once."""
        hooks = list(dict.fromkeys(sae.info.hook_name for sae in self.saes))
        for places in chunks(range(len(pairs)), self._batch):
            job.check()
            self._add(read_answers(loaded, [pairs[i] for i in places], hooks))
            job.progress(done=self.n_pairs, total=len(pairs), unit="pairs", phase="reading")

    def _add(self, rows: AnswerRows) -> None:
        for sae, part in zip(self.saes, self.parts, strict=True):
            part.add(rows.streams[sae.info.hook_name], rows.sizes)
        self.n_pairs += rows.n_pairs
        self.n_chosen += rows.n_chosen
        self.n_rejected += sum(rows.sizes) - rows.n_chosen


def _publish(
    spec: ContrastSpec,
    job: JobContext,
    *,
    loaded: LoadedModel,
    found: _Measured,
    identity: str,
    data_hash: str,
) -> int:
    results = [
        ContrastSaeResult(
            sae_id=entry.sae_id,
            revision=sae.info.revision,
            hook_name=sae.info.hook_name,
            layer=sae.info.layer,
            values=part.values(),
        )
        for entry, sae, part in zip(spec.saes, found.saes, found.parts, strict=True)
    ]
    for result in results:
        if not result.values.finite:
            raise Invalid(
                f"Activations of {result.sae_id} are not finite.",
                hint="Run the model in float32, and check the SAE's weights.",
            )
    with job.scope() as session:
        return contrasts.publish(
            session,
            job_id=job.job_id,
            identity=identity,
            model_id=spec.model_id,
            model_revision=loaded.info.revision,
            preference_name=preference_name(spec.data),
            preference_hash=data_hash,
            n_pairs=found.n_pairs,
            n_tokens_chosen=found.n_chosen,
            n_tokens_rejected=found.n_rejected,
            spec=spec_json(spec),
            saes=results,
        )


def _identity(
    spec: ContrastSpec,
    loaded: LoadedModel,
    saes: Sequence[SparseAutoencoder],
    *,
    pairs: list[str],
) -> str:
    """sha256 over everything that decides the result."""
    key = {
        "format": FORMAT_VERSION,
        "model_id": spec.model_id,
        "model": loaded.info.revision,
        "saes": [[e.sae_id, s.info.revision] for e, s in zip(spec.saes, saes, strict=True)],
        "pairs": pairs,
        "lengths": spec.lengths.model_dump(),
        "dtype": spec.dtype.value,
    }
    return hashlib.sha256(canonical(key).encode()).hexdigest()
