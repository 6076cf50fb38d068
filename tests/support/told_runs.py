"""Alignment runs as a worker tells them: settings, events and items, without any training."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pydantic import JsonValue

from core.db.repositories import attempts
from core.db.session import Session
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.job import Claim, EventKind, JobFailure
from core.jobs import control
from tests.support.builders import MODEL_ID, SAE_ID

START = datetime(2026, 11, 20, 10, tzinfo=UTC)


def told_spec(method: str = "fpo", **changes: Any) -> AlignSpec:
    """Settings over the sample model, whose SAE it watches."""
    source = {"kind": "folder", "location": "/nowhere"}
    training = {"batch_size": 8, "epochs": 1, **changes.pop("training", {})}
    return AlignSpec.model_validate(
        {
            "model_id": MODEL_ID,
            "model": source,
            "aligned_id": f"{MODEL_ID}-{method}",
            "method": method,
            "constraint": [{"sae_id": SAE_ID, "source": source}],
            "training": training,
            **changes,
        }
    )


def told_sft() -> SftSpec:
    """Settings of a fine-tuning run of the sample model."""
    return SftSpec.model_validate(
        {
            "model_id": MODEL_ID,
            "model": {"kind": "folder", "location": "/nowhere"},
            "tuned_id": f"{MODEL_ID}-sft",
            "data": {"kind": "file", "path": "/nowhere/talks.jsonl"},
        }
    )


def start_run(session: Session, spec: AlignSpec | SftSpec) -> Claim:
    """A run that a worker has taken."""
    job_id = control.submit(session, spec)
    claim = attempts.claim(session, job_id=job_id, attempt=1, owner="told:1:1")
    assert claim is not None
    return claim


def tell_steps(
    session: Session,
    claim: Claim,
    spec: AlignSpec | SftSpec,
    *,
    first: int,
    last: int,
    total: int,
    eval_every: int = 20,
    seed: int = 0,
) -> None:
    """Metrics and progress of steps ``first`` to ``last``; step 0 is an evaluation alone."""
    rng = np.random.default_rng(seed)
    events: list[tuple[EventKind, datetime, dict[str, JsonValue]]] = []
    for step in range(first, last + 1):
        at = START + timedelta(seconds=2 * step)
        values = _values(spec, step, rng, evaluated=step % eval_every == 0 or step == total)
        events.append((EventKind.METRIC, at, {"step": step, **values}))
        events.append((EventKind.PROGRESS, at, _progress(step, total)))
    events.append((EventKind.LOG, START, {"level": "info", "text": f"Step {last} is done."}))
    attempts.append_events(session, claim, events)
    if isinstance(spec, AlignSpec):
        attempts.finish_item(session, claim, key="moved", result=told_moved(last))


def told_moved(step: int) -> JsonValue:
    """The item that names the most moved features."""
    rows = [(0, 0.42, -0.31), (1, -0.2, 0.05), (2, 0.04, 0.03)]
    return {
        "step": step,
        "features": [
            {"sae_id": SAE_ID, "feature": index, "chosen": chosen, "rejected": rejected}
            for index, chosen, rejected in rows
        ],
    }


def finish_run(session: Session, claim: Claim, *, steps: int) -> None:
    """The run succeeds."""
    attempts.succeed(
        session,
        claim,
        {
            "model_dir": "/data/jobs/1/model",
            "steps": steps,
            "n_train": 120,
            "n_held_out": 24,
            "n_refused": 3,
            "truncation": "2 of 288 answers were cut.",
            "cache_bytes_per_pair": {},
            "last_evaluation": {},
        },
    )


def fail_run(session: Session, claim: Claim) -> None:
    """The run diverges."""
    message = "The loss of step 13 is not finite; the weights were left as they were."
    hint = "Lower the learning rate or beta, or train in float32."
    attempts.fail(session, claim, JobFailure(code="training_diverged", message=message, hint=hint))


def told_run(
    session: Session, method: str = "fpo", *, steps: int = 60, seed: int = 0, **changes: Any
) -> int:
    """A whole run; the id of its job."""
    spec = told_spec(method, **changes)
    claim = start_run(session, spec)
    tell_steps(session, claim, spec, first=0, last=steps, total=steps, seed=seed)
    finish_run(session, claim, steps=steps)
    return claim.job_id


def _progress(step: int, total: int) -> dict[str, JsonValue]:
    left = float(2 * (total - step))
    return {
        "done": step,
        "total": total,
        "unit": "steps",
        "rate": 0.5,
        "remaining_seconds": left,
        "phase": "training",
    }


def _values(
    spec: AlignSpec | SftSpec, step: int, rng: np.random.Generator, *, evaluated: bool
) -> dict[str, JsonValue]:
    """Numbers that fall and rise as those of a run do."""
    learned = 1 - math.exp(-step / 60)
    noise = rng.normal(size=8).tolist()
    loss = 0.693 - 0.35 * learned
    pairs = _pairs(spec, learned, noise) if isinstance(spec, AlignSpec) else {}
    values: dict[str, JsonValue] = {}
    if step:
        values = {
            "loss": loss + 0.05 * noise[0],
            **pairs,
            "grad_norm": 1.5 + 0.4 * abs(noise[1]),
            "learning_rate": 5e-7 * min(1.0, step / 20),
            "num_tokens": 1840.0,
            "tokens_per_second": 920 + 40 * noise[2],
            "peak_memory_bytes": 2.1e9,
        }
    if evaluated:
        values |= {"eval_loss": loss, **{f"eval_{k}": v for k, v in pairs.items()}}
        if pairs:
            values |= {
                "eval_probe_kl/forward": 0.08 * learned**2,
                "eval_probe_kl/reverse": 0.1 * learned**2,
            }
        values["eval_runtime"] = 1.0
    return values


def _pairs(spec: AlignSpec, learned: float, noise: list[float]) -> dict[str, JsonValue]:
    chosen, rejected = 0.3 * learned + 0.04 * noise[3], -0.9 * learned + 0.06 * noise[4]
    found: dict[str, JsonValue] = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": min(1.0, 0.5 + 0.45 * learned + 0.04 * noise[5]),
        "logps/chosen": -80 + 4 * chosen,
        "logps/rejected": -75 + 6 * rejected,
        "preference_accuracy": min(1.0, 0.55 + 0.35 * learned + 0.03 * noise[6]),
    }
    for sae in spec.constraint:
        found[f"feature_divergence/{sae.sae_id}/chosen"] = 0.02 * learned + 0.001 * abs(noise[7])
        found[f"feature_divergence/{sae.sae_id}/rejected"] = 0.03 * learned
    return found
