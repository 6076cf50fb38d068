"""Alignment and SFT as jobs: in this process, or in several that torchrun starts."""

import json
from dataclasses import asdict
from pathlib import Path

import fasteners
from accelerate import Accelerator
from pydantic import JsonValue

from core.db.repositories import attempts
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.model import Dtype
from core.errors import Cancelled, Conflict
from core.jobs.align_follow import submit_drift
from worker.align.constraint import Constraint, encoder_of, make_constraint
from worker.align.data.sources import load_conversations, load_preferences
from worker.align.outcome import forget_outcome, read_outcome
from worker.align.pipeline import RunResult, Stage, align_model, tune_model
from worker.align.storage import save_text
from worker.align.training.launch import make_accelerator, run_processes
from worker.align.training.metrics import read_from, read_metrics
from worker.align.training.observer import METRICS, MOVED, Observer, Sink
from worker.lm.load import LoadedModel, load_model
from worker.progress import JobContext
from worker.sae.load import check_fits, load_sae

SPEC = "spec.json"
DRIFT = "drift"  # the item that names the job after this one


def run_align(spec: AlignSpec, job: JobContext) -> dict[str, JsonValue]:
    """Run preference optimisation as a job; resumes where an earlier attempt stopped.

    Returns:
        ``model_dir``, ``steps``, counts of the data, bytes of the reference cache, the last
        evaluation's numbers, and ``drift_job``, which measures what moved, if it is wanted.
    """
    result = _run(spec, job)
    if spec.measure_drift:
        result["drift_job"] = _follow(spec, job, str(result["model_dir"]))
    return result


def run_sft(spec: SftSpec, job: JobContext) -> dict[str, JsonValue]:
    """Run supervised fine-tuning as a job; resumes where an earlier attempt stopped."""
    return _run(spec, job)


def execute(
    spec: AlignSpec | SftSpec,
    *,
    folder: Path,
    cache_dir: Path,
    sink: Sink,
    accelerator: Accelerator,
) -> RunResult:
    """Load what a run needs and train; every process of a run calls it.

    The run's folder is ``jobs/<number>`` in the data folder, beside which uploaded sets lie.
    """
    observer = Observer(
        folder,
        sink,
        is_main=accelerator.is_main_process,
        tensorboard=spec.training.tensorboard,
    )
    stage = Stage(
        folder=folder,
        reference_root=cache_dir / "align" / "reference",
        accelerator=accelerator,
        observer=observer,
    )
    if isinstance(spec, SftSpec):
        talks = load_conversations(spec.data)
        loaded = load_run_model(spec, cache_dir, str(accelerator.device))
        return tune_model(spec, loaded=loaded, data=talks, stage=stage)
    pairs = load_preferences(spec.data, data_dir=folder.parents[1])
    loaded = load_run_model(spec, cache_dir, str(accelerator.device))
    constraints = load_constraints(spec, loaded, cache_dir=cache_dir)
    return align_model(spec, loaded=loaded, constraints=constraints, data=pairs, stage=stage)


def load_run_model(spec: AlignSpec | SftSpec, cache_dir: Path, device: str) -> LoadedModel:
    """The model that is trained; trained weights are float32, those below adapters as set."""
    dtype = Dtype.FLOAT32 if spec.training.lora is None else spec.dtype
    return load_model(spec.model, dtype=dtype, device=device, cache_dir=cache_dir)


def load_constraints(
    spec: AlignSpec, loaded: LoadedModel, *, cache_dir: Path
) -> tuple[Constraint, ...]:
    """The SAEs of a constraint set, each checked against the model."""
    found = []
    for entry in spec.constraint:
        sae = load_sae(entry.source, device=str(loaded.device), cache_dir=cache_dir)
        check_fits(sae, loaded)
        found.append(
            make_constraint(
                entry,
                encoder=encoder_of(sae),
                hook_name=sae.info.hook_name,
                revision=sae.info.revision,
            )
        )
    return tuple(found)


class JobSink:
    """A job as the place where a run is watched; every row of the metric file reaches it once."""

    def __init__(self, job: JobContext, folder: Path) -> None:
        self._job = job
        self._folder = folder
        job.each_step_once = True
        job.flush()
        with job.open_scope() as session:
            self._last = attempts.last_step(session, job.job_id)
        self._read = 0
        self._moved = ""
        self.wrote_step()

    def wrote_step(self) -> None:
        """Pass on the rows that the job has not seen."""
        path = self._folder / METRICS
        if not path.is_file():
            return
        rows, self._read = read_from(path, self._read)
        for row in rows:
            step = int(row.pop("step"))
            if step > self._last:
                self._job.metric(step, **row)
                self._last = step
        self._pass_moved()

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Pairs of the reference or steps of the training."""
        unit = "pairs" if phase == "reference" else "steps"
        self._job.progress(done=done, total=total, unit=unit, phase=phase)

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """A line of a known kind for the job's log."""
        self._job.tell(kind, **values)

    def stop_requested(self) -> bool:
        """Whether the job was cancelled."""
        try:
            self._job.check()
        except Cancelled:
            return True
        return False

    def _pass_moved(self) -> None:
        path = self._folder / MOVED
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text != self._moved:
            self._job.finish_item("moved", json.loads(text))
            self._moved = text


def _follow(spec: AlignSpec, job: JobContext, model_dir: str) -> int:
    """Queue the drift of this run, once whatever the number of attempts."""
    earlier = job.finished_items().get(DRIFT)
    if isinstance(earlier, int):
        return earlier
    with job.scope() as session:
        drift_job = submit_drift(session, spec, run_job_id=job.job_id, model_dir=model_dir)
        attempts.finish_item(session, job.claim, key=DRIFT, result=drift_job)
    return drift_job


def _run(spec: AlignSpec | SftSpec, job: JobContext) -> dict[str, JsonValue]:
    folder = job.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    lock = fasteners.InterProcessLock(folder / "lock")
    if not lock.acquire(blocking=False):
        raise Conflict(
            "Another process trains in this run's folder.", hint="Wait until it has ended."
        )
    try:
        sink = JobSink(job, folder)
        save_text(spec.model_dump_json(indent=2), folder / SPEC)
        if spec.launch.processes == 1:
            result = execute(
                spec,
                folder=folder,
                cache_dir=job.cache_dir,
                sink=sink,
                accelerator=make_accelerator(device=spec.device),
            )
        else:
            result = _run_ranks(spec, job, sink)
        sink.wrote_step()
    finally:
        lock.release()
    return _summary(result, folder)


def _run_ranks(spec: AlignSpec | SftSpec, job: JobContext, sink: JobSink) -> RunResult:
    folder = job.work_dir
    forget_outcome(folder)

    def each_poll() -> bool:
        sink.wrote_step()
        return sink.stop_requested()

    code = run_processes(
        [str(folder), str(job.cache_dir)],
        processes=spec.launch.processes,
        log=folder / "ranks.log",
        each_poll=each_poll,
    )
    sink.wrote_step()
    return read_outcome(folder, code=code)


def _summary(result: RunResult, folder: Path) -> dict[str, JsonValue]:
    rows = read_metrics(folder / METRICS)
    last = next((row for row in reversed(rows) if "eval_loss" in row), {})
    values: dict[str, JsonValue] = {
        **asdict(result),
        "model_dir": str(result.model_dir),
        "last_evaluation": {**last},
    }
    return values
