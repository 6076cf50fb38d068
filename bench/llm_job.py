"""Request rate of a whole run of explanations: database, stored answers, ledger and all.

Reads features of a made-up harvest, explains each once and has it judged by detection, by the
code that a worker's runner runs. Used by bench.llm.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.database import MODEL_ID, Clock, publish
from core.db.embedded import start_database
from core.db.migrate import migrate
from core.db.repositories import attempts, endpoints
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.endpoint import EndpointSettings
from core.domain.explain_job import ExplainerSetting, ExplainSpec, ScorerSetting, WholeSae
from core.explaining.keys import KeyRing
from core.jobs.control import submit
from worker.explain.run import run_explain
from worker.progress import JobContext

N_CONTEXTS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRate:
    """What a run did in how long."""

    n_features: int
    n_scores: int
    requests: int
    seconds: float
    processor_seconds: float


def measure_job(base_url: str, *, n_features: int, concurrency: int) -> JobRate:
    """A run over so many features, from the first read to the last write."""
    with tempfile.TemporaryDirectory() as folder, start_database(Path(folder)) as database:
        migrate(database.url)
        engine = make_engine(database.url)
        scope = session_scope(engine)
        publish(scope, Clock(database), n_saes=1, n=n_features, n_contexts=N_CONTEXTS)
        settings = EndpointSettings(
            name="fixed", base_url=base_url, model="fixed", concurrency=concurrency
        )
        with scope() as session:
            endpoint = endpoints.add(session, settings, key_sealed=None)
        found = _attempt(scope, Path(folder), _spec(endpoint))
        engine.dispose()
    return found


def _spec(endpoint: int) -> ExplainSpec:
    return ExplainSpec(
        model_id=MODEL_ID,
        sae_id="0-bench",
        features=WholeSae(),
        explainer=ExplainerSetting(endpoint_id=endpoint),
        scorer=ScorerSetting(endpoint_id=endpoint, kinds=("detection",), shuffled_floor=False),
    )


def _attempt(scope: SessionScope, folder: Path, spec: ExplainSpec) -> JobRate:
    with scope() as session:
        job_id = submit(session, spec)
        claim = attempts.claim(session, job_id=job_id, attempt=1, owner="bench:1:1")
    if claim is None:
        raise RuntimeError("the job was taken by somebody else")
    keys = KeyRing(secret_key=None, data_dir=folder, environment={})
    start, processor = time.perf_counter(), time.process_time()
    with JobContext(
        claim=claim, scope=scope, work_dir=folder / "job", cache_dir=folder, keys=keys
    ) as job:
        result = run_explain(spec, job)
    return JobRate(
        n_features=int(str(result["n_features"])),
        n_scores=int(str(result["n_scores"])),
        requests=int(str(result["requests"])),
        seconds=time.perf_counter() - start,
        processor_seconds=time.process_time() - processor,
    )
