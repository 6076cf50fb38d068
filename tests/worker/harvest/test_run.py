"""From settings to pages: what a harvest leaves in the database, and when it is not made again."""

import json

import numpy as np
import pytest

from core.db.repositories import feature_pages, harvests
from core.domain.ids import FeatureId
from core.errors import Cancelled, DiskFull
from tests.support.harvests import gemma_spec, harvested, llama_spec, write_corpus_file
from tests.support.jobs import claimed_job
from worker.harvest import files
from worker.harvest.run import run_harvest


def run(scope, spec, folder):
    with claimed_job(scope, spec, folder) as job:
        result = run_harvest(spec, job)
        left = sorted(path.name for path in job.work_dir.iterdir())
    assert not left, "an ended harvest leaves no files"
    return result


def test_pages_show_what_was_harvested(session_scope, tmp_path):
    spec = llama_spec(tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:
        stored, saes, facts = harvested(spec, job)
    result = run(session_scope, spec, tmp_path)
    json.dumps(result)
    assert (result["n_contexts"], result["n_scored"]) == (facts.n_contexts, facts.n_scored)
    place = {index: row for row, index in enumerate(stored.context_index.tolist())}
    with session_scope() as session:
        for entry, sae in zip(spec.saes, saes, strict=True):
            for index in range(0, 24, 5):
                feature = FeatureId(model_id=spec.model_id, sae_id=entry.sae_id, index=index)
                page = feature_pages.feature_page(session, feature=feature, include_random=True)
                rows = slice(sae.contexts.row_offsets[index], sae.contexts.row_offsets[index + 1])
                kept = [c for c in page.contexts if c.band != 5]
                assert [c.context_index for c in kept] == sae.contexts.context_index[rows].tolist()
                assert len(page.contexts) - len(kept) == spec.n_random
                for context in page.contexts:
                    ids = stored.token_ids[place[context.context_index]]
                    assert context.token_ids.tolist() == ids[ids >= 0].tolist()
                assert page.stats.n_active == sae.n_active[index]
                assert page.stats.density == sae.n_active[index] / facts.n_scored
                np.testing.assert_array_equal(page.histogram.counts, sae.histogram[index])


def test_the_same_harvest_is_not_made_twice_and_another_stands_beside_it(session_scope, tmp_path):
    spec = gemma_spec(tmp_path)
    first = run(session_scope, spec, tmp_path)
    other_cut = spec.model_copy(update={"batch_tiles": 3, "shard_contexts": 100})
    again = run(session_scope, other_cut, tmp_path)
    assert again["harvest_id"] == first["harvest_id"]
    assert again["reused"]
    assert not first["reused"]
    write_corpus_file(tmp_path / "corpus.jsonl", seed=4)
    other = run(session_scope, spec, tmp_path)
    seeded = run(session_scope, spec.model_copy(update={"seed": 2}), tmp_path)
    ids = {result["harvest_id"] for result in (first, other, seeded)}
    with session_scope() as session:
        assert {info.harvest_id for info in harvests.list_harvests(session)} == ids
    assert len(ids) == 3


def test_a_cancelled_harvest_is_resumed_to_its_end(session_scope, tmp_path, monkeypatch):
    spec = gemma_spec(tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:
        calls = iter(range(1_000))

        def check():
            if next(calls) == 9:
                raise Cancelled("The job was asked to stop.")

        monkeypatch.setattr(job, "check", check)
        with pytest.raises(Cancelled):
            run_harvest(spec, job)
        assert not run_harvest(spec, job)["reused"]


def test_a_full_disk_stops_the_harvest_by_name_and_it_goes_on_later(
    session_scope, tmp_path, monkeypatch
):
    spec = gemma_spec(tmp_path)
    with claimed_job(session_scope, spec, tmp_path) as job:

        def refuse(_file):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files, "sync_file", refuse)
            with pytest.raises(DiskFull):
                run_harvest(spec, job)
        assert not run_harvest(spec, job)["reused"]


def test_a_changed_configuration_beside_the_same_weights_is_another_harvest(
    session_scope, tmp_path
):
    spec = llama_spec(tmp_path)
    first = run(session_scope, spec, tmp_path)
    config_file = tmp_path / "topk" / "cfg.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config_file.write_text(json.dumps(config | {"k": 3}), encoding="utf-8")
    second = run(session_scope, spec, tmp_path)
    assert not second["reused"]
    assert second["spec_hash"] != first["spec_hash"]
