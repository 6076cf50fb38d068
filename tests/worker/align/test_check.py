"""Dry runs: what is found, what is wrong, and that nothing of the measured steps is kept."""

import json

import pytest
import torch

from core.db.repositories import jobs
from core.domain.align_check import CheckName, CheckReport
from core.domain.align_jobs import AlignCheckSpec
from core.errors import Cancelled
from core.interchange.preferences import write_preferences
from tests.support.harvests import write_sae
from tests.support.jobs import claimed_job
from tests.support.tiny_runs import tiny_pairs
from tests.support.tiny_world import write_world
from worker.align.check import run_check


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Model, SAE and pairs on disk."""
    return write_world(tmp_path_factory.mktemp("world"))


def checked(scope, folder, run, **settings) -> CheckReport:
    spec = AlignCheckSpec(run=run, **settings)
    with claimed_job(scope, spec, folder) as job:
        found = run_check(spec, job)
        left = sorted(path.name for path in job.work_dir.iterdir())
    assert left == []
    report = CheckReport.model_validate(json.loads(json.dumps(found["report"])))
    with scope() as session:
        told = jobs.get_card(session, job.job_id).progress
    assert told is not None
    assert (told.done, told.total) == (len(report.checks), len(CheckName))
    assert report.passed == found["passed"] == all(item.passed for item in report.checks)
    return report


def changed(run, **changes):
    return type(run).model_validate({**run.model_dump(mode="json"), **changes})


def verdict(report, name):
    return next(item for item in report.checks if item.name is name)


def test_a_run_that_may_start_is_measured(world, session_scope, tmp_path):
    report = checked(session_scope, tmp_path, world.run(steps=30), n_steps=3)
    assert report.passed
    assert [item.name for item in report.checks] == list(CheckName)
    assert all(item.message and not item.code for item in report.checks)
    assert report.data is not None
    assert (report.data.n_train, report.data.n_held_out) == (12, 4)
    assert report.lengths is not None
    assert report.lengths.longest_tokens <= 128
    found = report.estimate
    assert found is not None
    assert found.n_steps == 30
    assert len(found.losses) == 3
    assert found.losses[0] == pytest.approx(0.6931, abs=0.2)  # one step of warm-up came before
    assert found.seconds == pytest.approx(
        found.seconds_per_step * 30 + found.seconds_reference + found.seconds_evaluations
    )
    assert 0 < found.peak_memory_bytes < found.memory_bytes
    assert 0 < found.disk_bytes < found.disk_free_bytes
    assert found.device == "cpu"


@pytest.mark.parametrize("method", ["dpo", "simpo", "tdpo2"])
def test_every_method_is_rehearsed(world, session_scope, tmp_path, method):
    assert checked(session_scope, tmp_path, world.run(method), n_steps=1).passed


def test_adapters_are_rehearsed_and_fine_tuning_too(world, session_scope, tmp_path):
    lora = {"rank": 2, "target_modules": ["q_proj", "v_proj"]}
    run = world.run(steps=4)
    settings = {**run.training.model_dump(mode="json"), "lora": lora}
    adapted = checked(session_scope, tmp_path, changed(run, training=settings), n_steps=1)
    whole = checked(session_scope, tmp_path, run, n_steps=1)
    assert adapted.passed
    assert adapted.estimate is not None
    assert whole.estimate is not None
    assert adapted.estimate.disk_bytes < whole.estimate.disk_bytes
    talks = tmp_path / "talks.jsonl"
    talk = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    talks.write_text(json.dumps(talk))
    spec = AlignCheckSpec.model_validate(
        {
            "run": {
                "kind": "sft",
                "model_id": "tiny",
                "model": world.model,
                "tuned_id": "tiny-sft",
                "data": {"kind": "file", "path": str(talks), "held_out_share": 0.0},
                "max_length": 64,
                "dtype": "float32",
                "device": "cpu",
                "training": {"n_probe_rows": 0},
            }
        }
    )
    assert checked(session_scope, tmp_path, spec.run).passed


def test_everything_that_is_wrong_is_named_at_once(world, session_scope, tmp_path):
    far = write_sae(tmp_path / "far", "jumprelu", hook_name="blocks.9.hook_resid_post", seed=1)
    malformed = tmp_path / "malformed.jsonl"
    malformed.write_text('{"prompt": "q", "chosen": "a"}\nnot json\n')
    run = changed(
        world.run(),
        data={"kind": "file", "path": str(malformed)},
        constraint=[{"sae_id": "9-far", "source": {"kind": "folder", "location": str(far)}}],
        lengths={"max_length": 10**6, "max_prompt_length": 8},
    )
    report = checked(session_scope, tmp_path, run)
    assert not report.passed
    assert report.estimate is None
    data, saes = verdict(report, CheckName.DATA), verdict(report, CheckName.SAES)
    assert (data.code, saes.code) == ("invalid", "sae_mismatch")
    assert "row 0: No field 'rejected'" in data.message
    assert data.hint
    assert saes.hint
    assert verdict(report, CheckName.MODEL).passed


@pytest.mark.parametrize(
    ("changes", "name", "code"),
    [
        ({"lengths": {"max_length": 10**6, "max_prompt_length": 8}}, CheckName.LENGTHS, "invalid"),
        ({"model": {"kind": "folder", "location": "/none"}}, CheckName.MODEL, "model_missing"),
        ({"data": {"kind": "file", "path": "/none.jsonl"}}, CheckName.DATA, "not_found"),
    ],
)
def test_one_thing_that_is_wrong(world, session_scope, tmp_path, changes, name, code):
    report = checked(session_scope, tmp_path, changed(world.run(), **changes))
    (failed,) = [item for item in report.checks if not item.passed]
    assert (failed.name, failed.code) == (name, code)


def test_a_hook_that_is_not_there_and_k_beyond_the_sae(world, session_scope, tmp_path):
    nowhere = write_sae(tmp_path / "no", "jumprelu", hook_name="blocks.1.hook_nowhere", seed=1)
    source = {"kind": "folder", "location": str(nowhere)}
    run = changed(world.run(), constraint=[{"sae_id": "1-no", "source": source}])
    assert verdict(checked(session_scope, tmp_path, run), CheckName.SAES).code == "hook_unknown"
    wide = [{**world.sae, "k": 10_000}]
    report = checked(session_scope, tmp_path, changed(world.run(), constraint=wide))
    assert "k = 10000" in verdict(report, CheckName.SAES).message
    beyond = [{**world.sae, "k": 4, "held": [{"feature": 99}]}]
    report = checked(session_scope, tmp_path, changed(world.run(), constraint=beyond))
    assert "99 is not one" in verdict(report, CheckName.SAES).message


def test_a_loss_that_is_not_finite_is_found_before_training(world, session_scope, tmp_path):
    run = changed(world.run("dpo"), beta=1e308, constraint=[])
    report = checked(session_scope, tmp_path, run, n_steps=3)
    steps = verdict(report, CheckName.STEPS)
    assert not steps.passed
    assert steps.code == "training_diverged"
    assert "not finite" in steps.message


def test_a_cancelled_check_ends_and_leaves_nothing(world, session_scope, tmp_path):
    spec = AlignCheckSpec(run=world.run())
    with claimed_job(session_scope, spec, tmp_path) as job:
        job._stop.set()
        with pytest.raises(Cancelled):
            run_check(spec, job)
        assert not (job.work_dir / "check").exists()


def test_a_check_queues_nothing_after_it(world, session_scope, tmp_path):
    write_preferences(tiny_pairs(2, 1).pairs, tmp_path / "few.jsonl")
    run = changed(world.run(), data={"kind": "file", "path": str(tmp_path / "few.jsonl")})
    assert checked(session_scope, tmp_path, run).passed
    with session_scope() as session:
        assert [card.kind for card in jobs.list_jobs(session)] == ["align_check"]
