"""Alignment and SFT as jobs, from folders on disk: results, events, stops, several processes."""

import json
import threading
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.db.repositories import jobs
from core.domain.align_jobs import DriftSpec
from core.domain.alignment import AlignSpec, SftSpec, Strategy
from core.domain.job import EventKind, parse_spec
from core.errors import Cancelled, DiskFull, HookUnknown, Invalid, SaeMismatch
from core.interchange.preference_store import save_pairs
from core.interchange.preferences import read_preferences, write_preferences
from tests.support.harvests import write_model, write_sae
from tests.support.jobs import claimed_job, job_spec
from tests.support.tiny_runs import tiny_pairs
from worker.align.run import run_align, run_sft
from worker.align.training import checkpoint
from worker.align.training.metrics import read_metrics
from worker.progress import JobContext

HOOK = "blocks.1.hook_resid_post"
TRAINING = {
    "batch_size": 3,
    "micro_batch_size": 1,
    "epochs": 2,
    "optimizer": {"learning_rate": 3e-3, "warmup_steps": 0},
    "eval_every": 2,
    "save_every": 2,
    "n_probe_rows": 8,
    "tensorboard": False,
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, an SAE and pairs."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "model", "llama")
    write_sae(folder / "sae", "jumprelu", hook_name=HOOK, seed=1)
    write_preferences(tiny_pairs(7, 2).pairs, folder / "pairs.jsonl")
    talk = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    other = {"prompt": "Bye", "completion": "See you."}
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, (talk, other))))
    return folder


def align_spec(world, **changes) -> AlignSpec:
    settings = {
        "model_id": "tiny",
        "model": {"kind": "folder", "location": str(world / "model")},
        "aligned_id": "tiny-aligned",
        "data": {"kind": "file", "path": str(world / "pairs.jsonl")},
        "constraint": [
            {
                "sae_id": "1-tiny",
                "source": {"kind": "folder", "location": str(world / "sae")},
                "k": 4,
            }
        ],
        "lengths": {"max_length": 128, "max_prompt_length": 96},
        "dtype": "float32",
        "device": "cpu",
        "training": TRAINING,
    }
    return AlignSpec.model_validate({**settings, **changes})


@contextmanager
def running(scope, folder, stop=None):
    with claimed_job(scope, job_spec(), folder) as job:
        yield JobContext(
            claim=job.claim,
            scope=scope,
            work_dir=job.work_dir,
            cache_dir=folder / "cache",
            stop=stop,
        )
        job.flush()


def metric_events(scope, job):
    job.flush()
    with scope() as session:
        events = jobs.events_after(session, job.job_id, seq=0)
    return [event.payload for event in events if event.kind is EventKind.METRIC]


def test_a_job_trains_and_its_folder_holds_the_model_and_the_numbers(
    world, session_scope, tmp_path
):
    with running(session_scope, tmp_path) as job:
        result: Any = run_align(align_spec(world, training={**TRAINING, "tensorboard": True}), job)
        rows = read_metrics(job.work_dir / "metrics.jsonl")
        events = metric_events(session_scope, job)
        moved: Any = job.finished_items()["moved"]
    assert events == rows
    assert [row["step"] for row in rows] == list(range(7))
    assert result["steps"] == 6
    assert (result["n_train"], result["n_held_out"], result["n_refused"]) == (7, 2, 0)
    assert result["last_evaluation"]["eval_probe_kl/forward"] > 0
    assert result["cache_bytes_per_pair"].keys() == {"logps", "1-tiny"}
    assert moved["features"][0]["sae_id"] == "1-tiny"
    table = (job.work_dir / "metrics.csv").read_text().splitlines()
    assert len(table) == 8
    assert list((job.work_dir / "tensorboard").glob("events.*"))
    assert (tmp_path / "jobs").is_dir()
    again = align_spec(world, model={"kind": "folder", "location": result["model_dir"]})
    with running(session_scope, tmp_path) as job:
        second: Any = run_align(again, job)
    start = second["last_evaluation"]["eval_loss"]
    assert start > 0


def test_a_cancelled_job_goes_on_in_its_next_attempt(world, session_scope, tmp_path):
    spec = align_spec(world)
    with running(session_scope, tmp_path) as job:
        run_align(spec, job)
        expected = read_metrics(job.work_dir / "metrics.jsonl")
    stop = threading.Event()
    with running(session_scope, tmp_path, stop) as job:
        checks = 0
        real = job.check

        def check() -> None:
            nonlocal checks
            checks += 1
            if checks == 4:
                stop.set()
            real()

        job.check = check
        with pytest.raises(Cancelled):
            run_align(spec, job)
        stop.clear()
        job.check = real
        result = run_align(spec, job)
        events = metric_events(session_scope, job)
    assert result["steps"] == 6
    assert [event["step"] for event in events] == list(range(7))
    for event, row in zip(events, expected, strict=True):
        assert event.get("loss") == row.get("loss")


@pytest.mark.parametrize("unsent", [False, True])
def test_a_run_that_dies_before_its_first_checkpoint_tells_each_step_once(
    world, session_scope, tmp_path, unsent
):
    spec = align_spec(world, training={**TRAINING, "save_every": 50})
    with running(session_scope, tmp_path) as job:
        run_align(spec, job)
        expected = read_metrics(job.work_dir / "metrics.jsonl")
        whole = load_file(job.work_dir / "model" / "model.safetensors")
    with claimed_job(session_scope, job_spec(), tmp_path) as held:
        for last_check in (5, 4, None):
            job = JobContext(
                claim=held.claim,
                scope=session_scope,
                work_dir=held.work_dir,
                cache_dir=tmp_path / "cache",
            )
            if last_check is not None:
                with dying_at(job, last_check), pytest.raises(InterruptedError):
                    run_align(spec, job)
                assert not (job.work_dir / "checkpoints").exists()
                if not unsent:
                    job.flush()
        result = run_align(spec, job)
        events = metric_events(session_scope, job)
        rows = read_metrics(job.work_dir / "metrics.jsonl")
        again = load_file(job.work_dir / "model" / "model.safetensors")
    assert result["steps"] == 6
    assert [event["step"] for event in events] == list(range(7))
    assert events == rows
    for event, row in zip(events, expected, strict=True):
        assert event.get("loss") == row.get("loss")
    for name, weight in whole.items():
        assert torch.equal(again[name], weight), name


@contextmanager
def dying_at(job, last_check):
    """Inside, the process dies, without a word to anybody, when it looks for the n-th time."""
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == last_check:
            raise InterruptedError

    job.check = check
    yield
    del job.check


def test_a_finished_run_queues_one_measurement_of_what_moved(world, session_scope, tmp_path):
    spec = align_spec(world)
    with claimed_job(session_scope, spec, tmp_path) as job:
        first: Any = run_align(spec, job)
        second: Any = run_align(spec, job)
        with session_scope() as session:
            (queued,) = jobs.list_jobs(session, kind="drift")
            found = parse_spec(jobs.get_spec(session, queued.job_id))
    assert first["drift_job"] == second["drift_job"] == queued.job_id
    assert isinstance(found, DriftSpec)
    assert found.run_job_id == job.job_id
    assert found.aligned_dir == first["model_dir"]
    assert [(sae.sae_id, sae.harvest_id) for sae in found.saes] == [("1-tiny", None)]
    quiet = align_spec(world, measure_drift=False)
    with claimed_job(session_scope, quiet, tmp_path) as job:
        assert "drift_job" not in run_align(quiet, job)


def test_a_stored_set_trains_as_its_file_does(world, session_scope, tmp_path):
    pairs = read_preferences(world / "pairs.jsonl").pairs
    saved = save_pairs(pairs, tmp_path)
    stored = {"kind": "stored", "content_hash": saved.content_hash, "name": "mine"}
    losses = []
    for data in (align_spec(world).data, stored):
        spec = align_spec(world, data=data)
        with running(session_scope, tmp_path) as job:
            run_align(spec, job)
            rows = read_metrics(job.work_dir / "metrics.jsonl")
        losses.append([row.get("loss") for row in rows])
    assert losses[0] == losses[1]


def test_a_full_disk_stops_a_run_by_name_and_it_goes_on_from_its_last_checkpoint(
    world, session_scope, tmp_path, monkeypatch
):
    spec = align_spec(world)

    def refuse_the_second(tensors, path, **settings):
        if "step-00000004" in str(path):
            raise OSError(28, "No space left on device")
        save_file(tensors, path, **settings)

    with running(session_scope, tmp_path) as job:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save_file", refuse_the_second)
            with pytest.raises(DiskFull, match="disk is full") as caught:
                run_align(spec, job)
        assert "resume" in caught.value.hint
        left = sorted(path.name for path in (job.work_dir / "checkpoints").iterdir())
        result = run_align(spec, job)
        events = metric_events(session_scope, job)
    assert left == ["step-00000002"]
    assert result["steps"] == 6
    assert [event["step"] for event in events] == list(range(7))


def test_events_lost_in_a_crash_are_sent_again_and_none_twice(world, session_scope, tmp_path):
    spec = align_spec(world)
    with running(session_scope, tmp_path) as job:
        run_align(spec, job)
        job.flush()
        with (job.work_dir / "metrics.jsonl").open("a") as file:
            file.write('{"step": 7, "loss": 0.5}\n')  # written, but never sent
        run_align(spec, job)
        steps = [event["step"] for event in metric_events(session_scope, job)]
    assert steps == list(range(8))


def test_sft_lowers_its_loss_and_alignment_starts_from_its_result(world, session_scope, tmp_path):
    spec = SftSpec.model_validate(
        {
            "model_id": "tiny",
            "model": {"kind": "folder", "location": str(world / "model")},
            "tuned_id": "tiny-sft",
            "data": {"kind": "file", "path": str(world / "talks.jsonl"), "held_out_share": 0.0},
            "max_length": 64,
            "dtype": "float32",
            "device": "cpu",
            "training": {**TRAINING, "epochs": 8},
        }
    )
    with running(session_scope, tmp_path) as job:
        result = run_sft(spec, job)
        rows = read_metrics(job.work_dir / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[1]["loss"] - 0.5
    started = align_spec(world, model={"kind": "folder", "location": result["model_dir"]})
    with running(session_scope, tmp_path) as job:
        assert run_align(started, job)["steps"] == 6


@pytest.mark.parametrize("strategy", Strategy)
def test_two_processes_walk_the_same_trajectory_as_one(world, session_scope, tmp_path, strategy):
    spec = align_spec(world)
    with running(session_scope, tmp_path) as job:
        run_align(spec, job)
        alone = read_metrics(job.work_dir / "metrics.jsonl")
    shared = spec.model_copy(
        update={"launch": spec.launch.model_copy(update={"processes": 2, "strategy": strategy})}
    )
    with running(session_scope, tmp_path) as job:
        result = run_align(shared, job)
        both = read_metrics(job.work_dir / "metrics.jsonl")
        events = metric_events(session_scope, job)
    assert result["steps"] == 6
    assert events == both
    for one, other in zip(alone, both, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"tokens_per_second", "peak_memory_bytes", "eval_runtime"}:
            assert one[name] == pytest.approx(other[name], rel=1e-2, abs=1e-5), name


def test_several_processes_stop_at_a_step_and_go_on(world, session_scope, tmp_path):
    spec = align_spec(
        world,
        training={**TRAINING, "epochs": 40},
        launch={"processes": 2, "strategy": "fsdp"},
    )
    stop = threading.Event()
    with running(session_scope, tmp_path, stop) as job:
        real = job.check

        def check() -> None:
            path = job.work_dir / "metrics.jsonl"
            if path.is_file() and len(read_metrics(path)) > 3:
                stop.set()
            real()

        job.check = check
        with pytest.raises(Cancelled):
            run_align(spec, job)
        stopped_at = read_metrics(job.work_dir / "metrics.jsonl")[-1]["step"]
        assert 3 <= stopped_at < 120
        stop.clear()
        job.check = real
        result: Any = run_align(spec, job)
        assert result["steps"] == 120
        steps = [event["step"] for event in metric_events(session_scope, job)]
    assert steps == list(range(121))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data": {"kind": "file", "path": "EMPTY"}}, Invalid),
        ({"lengths": {"max_length": 10**6, "max_prompt_length": 64}}, Invalid),
        ({"training": {**TRAINING, "lora": {"target_modules": ["nothing"]}}}, Invalid),
    ],
)
def test_what_can_be_known_before_training_is(world, session_scope, tmp_path, change, error):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"chosen": 1}\n')
    change = json.loads(json.dumps(change).replace("EMPTY", str(empty)))
    with running(session_scope, tmp_path) as job:
        with pytest.raises(error) as caught:
            run_align(align_spec(world, **change), job)
        assert not (job.work_dir / "checkpoints").exists()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("hook_name", "error"),
    [("blocks.9.hook_resid_post", SaeMismatch), ("blocks.1.hook_nowhere", HookUnknown)],
)
def test_an_sae_of_another_model_is_refused(world, session_scope, tmp_path, hook_name, error):
    write_sae(tmp_path / "sae", "jumprelu", hook_name=hook_name, seed=1)
    source = {"kind": "folder", "location": str(tmp_path / "sae")}
    spec = align_spec(world, constraint=[{"sae_id": "1-tiny", "source": source, "k": 4}])
    with running(session_scope, tmp_path) as job, pytest.raises(error):
        run_align(spec, job)
