"""Killed, resumed, cut differently: a harvest's rows stay the same bit for bit."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from core.errors import Conflict, CorpusEmpty, Invalid, SaeMismatch
from tests.support.harvests import (
    gemma_spec,
    harvested,
    llama_spec,
    write_corpus_file,
    write_npz,
)
from tests.support.jobs import ROOT, claimed_job, wait_for


def arrays_of(value, name: str = "") -> dict[str, np.ndarray]:
    """Every array in nested values, by path."""
    if not dataclasses.is_dataclass(value):
        return {name: np.asarray(value)}
    found: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(value):
        found |= arrays_of(getattr(value, field.name), f"{name}.{field.name}")
    return found


def assert_equal(first, second) -> None:
    """The same stored contexts and the same harvest of every SAE."""
    for one_value, other_value in zip([first[0], *first[1]], [second[0], *second[1]], strict=True):
        one, other = arrays_of(one_value), arrays_of(other_value)
        assert one.keys() == other.keys()
        for name, array in one.items():
            assert array.dtype == other[name].dtype, name
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def run(scope, spec, folder):
    with claimed_job(scope, spec, folder) as job:
        return harvested(spec, job)


def test_batch_and_shard_sizes_do_not_change_a_bit(session_scope, tmp_path):
    spec = llama_spec(tmp_path)
    expected = run(session_scope, spec, tmp_path)
    for batch_tiles, shard_contexts in ((1, 1), (7, 4), (3, 1000), (1, 10)):
        other = {"batch_tiles": batch_tiles, "shard_contexts": shard_contexts}
        assert_equal(run(session_scope, spec.model_copy(update=other), tmp_path), expected)


@pytest.mark.parametrize("after", [1, 6])
def test_a_killed_harvest_goes_on_to_the_undisturbed_result(
    session_scope, database_url, tmp_path, after
):
    spec = llama_spec(tmp_path, shard_contexts=8)
    write_corpus_file(tmp_path / "corpus.jsonl", n_documents=70)
    expected = run(session_scope, spec, tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:
        claim = job.claim
        numbers = [str(n) for n in (claim.job_id, claim.attempt, claim.epoch)]
        command = [sys.executable, "-m", "tests.support.harvest_process", database_url]
        child = subprocess.Popen([*command, str(job.work_dir), *numbers], cwd=ROOT)  # noqa: S603
        try:
            shards = job.work_dir / "shards"
            wait_for(
                lambda: (
                    child.poll() is not None
                    or max((int(p.name[:6]) for p in shards.glob("*.npz")), default=-1) >= after
                ),
                seconds=60,
                what="some shards",
            )
        finally:
            child.kill()
        assert child.wait() == -9, "the harvest ended before it was killed"
        finished = job.finished_items()
        assert [key for key in finished if key.startswith("shard-")]
        assert_equal(harvested(spec, job), expected)


def test_a_broken_state_file_is_passed_over(session_scope, tmp_path):
    spec = llama_spec(tmp_path, shard_contexts=4)
    with claimed_job(session_scope, spec, tmp_path) as job:
        expected = harvested(spec, job)
        newest = max((job.work_dir / "shards").glob("*.npz"))
        newest.write_bytes(newest.read_bytes()[:-7])
        assert_equal(harvested(spec, job), expected)
        for path in (job.work_dir / "shards").glob("*.npz"):
            path.unlink()
        assert_equal(harvested(spec, job), expected)


def test_a_corpus_that_changes_after_it_was_read_changes_nothing(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:
        expected = harvested(spec, job)
        write_corpus_file(tmp_path / "corpus.jsonl", seed=9)
        assert_equal(harvested(spec, job), expected)


def test_an_sae_that_changes_under_a_job_is_refused(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:
        harvested(spec, job)
        (tmp_path / "npz" / "params.npz").write_bytes(
            write_npz(tmp_path / "other", seed=8).read_bytes()
        )
        with pytest.raises(Conflict, match="not those that this job began with"):
            harvested(spec, job)


def test_an_sae_of_another_width_is_refused_before_the_pass(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    path = tmp_path / "npz" / "params.npz"
    with np.load(path) as content:
        tensors = dict(content)
    tensors |= {"W_enc": tensors["W_enc"][:8], "W_dec": tensors["W_dec"][:, :8]}
    tensors["b_dec"] = tensors["b_dec"][:8]
    np.savez(path, allow_pickle=False, **tensors)
    with pytest.raises(SaeMismatch):
        run(session_scope, spec, tmp_path)


def test_names_that_could_not_be_stored_are_refused_at_once(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    twice = spec.model_copy(update={"saes": spec.saes * 2})
    for wrong in (twice, spec.model_copy(update={"model_id": "two words"})):
        with pytest.raises(Invalid):
            run(session_scope, wrong, tmp_path)


def test_an_empty_corpus_is_said_so(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"text": "  "}\n')
    with pytest.raises(CorpusEmpty):
        run(session_scope, spec, tmp_path)
