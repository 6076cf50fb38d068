"""Runs of explanations for tests: an endpoint in the database, settings, an attempt."""

from pathlib import Path

from pydantic import JsonValue

from core.db.repositories import attempts, endpoints
from core.db.session import SessionScope
from core.domain.endpoint import EndpointSettings
from core.domain.explain_job import ExplainerSetting, ExplainSpec, ListedFeatures, ScorerSetting
from core.domain.job import Claim
from core.explaining.keys import KeyRing
from core.jobs.control import submit
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.llm_server import LlmServer
from worker.explain.run import run_explain
from worker.progress import JobContext


def key_ring(data_dir: Path, **environment: str) -> KeyRing:
    """Keys sealed by a file in a folder of the test."""
    return KeyRing(secret_key=None, data_dir=data_dir, environment=environment)


def store_endpoint(
    scope: SessionScope, server: LlmServer, *, key_sealed: bytes | None = None, **changes: object
) -> int:
    """The scripted server as an endpoint."""
    settings = {"name": f"scripted-{server.port}", "base_url": server.base_url, "model": "scripted"}
    with scope() as session:
        return endpoints.add(
            session,
            EndpointSettings.model_validate({**settings, "attempts": 2, **changes}),
            key_sealed=key_sealed,
        )


def spec_of(endpoint: int | None, **changes: object) -> ExplainSpec:
    """Explain two planted features and simulate them."""
    values: dict[str, object] = {
        "model_id": MODEL_ID,
        "sae_id": SAE_ID,
        "features": ListedFeatures(indices=(0, 1)),
        "explainer": ExplainerSetting(endpoint_id=endpoint),
        "scorer": ScorerSetting(endpoint_id=endpoint),
    }
    return ExplainSpec.model_validate({**values, **changes})


def queued(scope: SessionScope, spec: ExplainSpec) -> int:
    """A waiting job."""
    with scope() as session:
        return submit(session, spec)


def attempt(
    scope: SessionScope,
    data_dir: Path,
    spec: ExplainSpec,
    *,
    job_id: int | None = None,
    number: int = 1,
    keys: KeyRing | None = None,
) -> dict[str, JsonValue]:
    """One attempt of a job, in this process."""
    job_id = queued(scope, spec) if job_id is None else job_id
    with scope() as session:
        claim = attempts.claim(session, job_id=job_id, attempt=number, owner="test:1:1")
    assert isinstance(claim, Claim)
    with JobContext(
        claim=claim,
        scope=scope,
        work_dir=data_dir / "jobs" / str(job_id),
        cache_dir=data_dir / "cache",
        keys=keys or key_ring(data_dir),
    ) as job:
        return run_explain(spec, job)
