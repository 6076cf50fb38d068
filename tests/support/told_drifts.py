"""Drifts as a measurement stores them, without any model."""

from dataclasses import replace

import numpy as np

from core.db.repositories import drift_material, drifts
from core.db.session import Session
from core.domain.activation import ContextRows
from core.domain.align_results import AlignedRows, DriftSaeResult, PlaceValues
from core.domain.preference import Role, Turn
from core.domain.views_drift import (
    Place,
    PlaceFacts,
    Sample,
    SamplePair,
    SamplingSettings,
    Treatment,
)
from tests.support.builders import MODEL_ID, SAE_ID

SAMPLING = SamplingSettings(n_prompts=3, max_new_tokens=24, temperature=0.0, top_p=1.0, seed=0)


def publish_drift(
    session: Session,
    *,
    run_job_id: int | None,
    harvest_id: int | None,
    method: str = "fpo",
    n_features: int = 24,
    samples: bool = True,
    job_id: int | None = None,
    model_id: str = MODEL_ID,
) -> int:
    """A drift of the sample's SAE; feature 0 moved up on chosen answers and down on rejected."""
    return drifts.publish(
        session,
        job_id=job_id,
        run_job_id=run_job_id,
        identity=f"{model_id}-{run_job_id}-{harvest_id}-{method}-{samples}",
        about={
            "model_id": model_id,
            "aligned_id": f"{MODEL_ID}-{method}",
            "base_revision": "weights-1",
            "aligned_revision": "weights-2",
            "aligned_dir": "/data/jobs/1/model",
            "method": method,
            "preference_name": "demo",
            "preference_hash": "a" * 64,
            "n_pairs": 24,
            "dtype": "float32",
        },
        sampling=SAMPLING if samples else None,
        spec={},
        saes=[_sae(session, harvest_id, n_features)],
        samples=_samples() if samples else [],
    )


def _sae(session: Session, harvest_id: int | None, n_features: int) -> DriftSaeResult:
    part = None
    if harvest_id is not None:
        part = drift_material.stored_part(session, harvest_id, sae_id=SAE_ID)
    places = [Place.CHOSEN, Place.REJECTED] + ([Place.CORPUS] if part else [])
    treatment = [Treatment.OTHER] * n_features
    treatment[0], treatment[1] = Treatment.HELD, Treatment.FREE
    return DriftSaeResult(
        sae_id=SAE_ID,
        revision=f"sha-{SAE_ID}",
        hook_name="blocks.1.hook_resid_post",
        layer=1,
        part_id=part.part_id if part else None,
        places={place: _values(place, n_features) for place in places},
        treatment=tuple(treatment),
        rows=AlignedRows(contexts=_moved(part.contexts), random=_moved(part.random))
        if part
        else None,
    )


def _values(place: Place, n: int) -> PlaceValues:
    rng = np.random.default_rng(list(Place).index(place))
    base = rng.gamma(1.0, 1.0, n)
    change = rng.normal(0, 0.2, n)
    change[0] = {Place.CHOSEN: 1.5, Place.REJECTED: -1.25, Place.CORPUS: 0.125}[place]
    density = rng.uniform(0.05, 0.5, n)
    cosine = np.clip(change / 2, -1, 1)
    cosine[2] = np.nan
    return PlaceValues(
        base_mean=base + 2,
        aligned_mean=base + 2 + change,
        base_density=density,
        aligned_density=np.clip(density + change / 20, 0, 1),
        cosine=cosine,
        facts=PlaceFacts(
            n_items=24,
            n_tokens=980,
            base_norm=38.5,
            change_norm=2.75,
            mean_change_norm=1.4,
            base_explained_variance=0.812,
            aligned_explained_variance=0.794,
            base_l0=49.5,
            aligned_l0=51.25,
        ),
    )


def _moved(rows: ContextRows) -> ContextRows:
    """The same rows: every second one up by a half, the others down to a quarter."""
    sizes = np.diff(rows.nnz_offsets)
    factor = np.where(np.arange(len(sizes)) % 2 == 0, 1.5, 0.25).repeat(sizes)
    return replace(rows, values=(rows.values * factor).astype(np.float32))


def _samples() -> list[SamplePair]:
    texts = [
        ("What is the capital of France?", "I could not say for sure.", "Paris."),
        ("Say yes or no.", "It depends on what you mean by yes.", "It depends: yes."),
        ("Hello?", "Hello!", "Hello!"),
    ]
    return [
        SamplePair(
            position=place,
            row=place,
            prompt=(Turn(role=Role.USER, content=prompt),),
            chosen=(Turn(role=Role.ASSISTANT, content="Paris."),),
            rejected=(Turn(role=Role.ASSISTANT, content="Who knows?"),),
            n_prompt_tokens=12,
            base=_sample(base, ended=True),
            aligned=_sample(aligned, ended=place != 1),
        )
        for place, (prompt, base, aligned) in enumerate(texts)
    ]


def _sample(text: str, *, ended: bool) -> Sample:
    return Sample(text=text, token_ids=tuple(text.encode()[:24]), ended=ended)
