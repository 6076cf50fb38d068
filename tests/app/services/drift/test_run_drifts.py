"""What a run moved is found, measured once at a time, and read from a feature's side."""

import pytest

from app.services.align import runs as align_runs
from app.services.drift import feature_drifts, run_drifts
from app.services.features import catalog
from core.db.repositories import attempts, jobs
from core.domain.ids import FeatureId
from core.domain.job import JobFailure, parse_spec
from core.domain.views_drift import DriftQuery, DriftSort
from core.errors import Conflict
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.told_drifts import publish_drift
from tests.support.told_runs import start_run, told_run, told_spec

FEATURE = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)


@pytest.fixture
def run(session):
    """A finished run over the sample harvest."""
    publish_sample(session)
    return align_runs.get_run(session, told_run(session, "fpo", steps=20))


def harvest_of(session):
    return catalog.list_harvests(session)[0].harvest_id


def test_nothing_is_known_before_it_is_measured(session, run):
    found = run_drifts.run_drift(session, run)
    assert (found.drift, found.job, found.can_measure) == (None, None, True)


def test_a_measurement_reads_the_run_s_sae_on_its_harvest_and_is_started_once(session, run):
    job_id = run_drifts.measure(session, run)
    assert run_drifts.measure(session, run) == job_id
    spec = parse_spec(jobs.get_spec(session, job_id))
    assert spec.kind == "drift"
    assert spec.aligned_dir == "/data/jobs/1/model"
    assert [(s.sae_id, s.harvest_id) for s in spec.saes] == [(SAE_ID, harvest_of(session))]
    found = run_drifts.run_drift(session, run)
    assert found.job is not None
    assert found.job.job_id == job_id


def test_a_run_without_a_model_is_not_measured(session):
    claim = start_run(session, told_spec("fpo"))
    run = align_runs.get_run(session, claim.job_id)
    assert not run_drifts.run_drift(session, run).can_measure
    with pytest.raises(Conflict):
        run_drifts.measure(session, run)


def test_a_failed_measurement_is_told_until_one_succeeds(session, run):
    job_id = run_drifts.measure(session, run)
    claim = attempts.claim(session, job_id=job_id, attempt=1, owner="told:1:1")
    assert claim is not None
    attempts.fail(session, claim, JobFailure(code="out_of_memory", message="Memory ran out."))
    found = run_drifts.run_drift(session, run)
    assert found.job is not None
    assert found.job.error_code == "out_of_memory"
    again = run_drifts.measure(session, run)
    assert again > job_id
    publish_drift(session, run_job_id=run.job_id, harvest_id=harvest_of(session), job_id=again)
    claim = attempts.claim(session, job_id=again, attempt=1, owner="told:1:1")
    assert claim is not None
    attempts.succeed(session, claim, {})
    found = run_drifts.run_drift(session, run)
    assert found.drift is not None
    assert found.job is None


def test_features_are_read_in_the_order_that_is_asked_for(session, run):
    publish_drift(session, run_job_id=run.job_id, harvest_id=harvest_of(session))
    drift = run_drifts.run_drift(session, run).drift
    assert drift is not None
    query = DriftQuery(sort=DriftSort.CHOSEN, limit=3)
    rows = run_drifts.moved_rows(session, drift, sae_id=SAE_ID, query=query).rows
    assert rows[0].index == 0
    assert rows[0].chosen.delta == pytest.approx(1.5)
    samples = run_drifts.run_samples(session, drift)
    assert samples is not None
    assert [pair.position for pair in samples.pairs] == [0, 1, 2]


def test_a_feature_knows_the_runs_that_it_was_measured_after(session, run):
    harvest_id = harvest_of(session)
    other = told_run(session, "dpo", steps=20)
    first = publish_drift(session, run_job_id=run.job_id, harvest_id=harvest_id)
    publish_drift(session, run_job_id=other, harvest_id=harvest_id, method="dpo")
    publish_drift(session, run_job_id=None, harvest_id=harvest_id, method="simpo")
    found = feature_drifts.feature_drifts(session, FEATURE, run=None)
    assert [drift.run_job_id for drift in found.known] == [other, run.job_id]
    assert found.chosen is found.known[0]
    named = feature_drifts.feature_drifts(session, FEATURE, run=run.job_id)
    assert named.chosen is not None
    assert named.chosen.drift_id == first
    assert named.harvest_id == harvest_id
    nobody = feature_drifts.feature_drifts(session, FEATURE, run=99_999)
    assert (nobody.chosen, nobody.harvest_id) == (None, None)


def test_contexts_come_in_both_models(session, run):
    publish_drift(session, run_job_id=run.job_id, harvest_id=harvest_of(session))
    drift = feature_drifts.feature_drifts(session, FEATURE, run=None).chosen
    assert drift is not None
    found = feature_drifts.compared_contexts(session, FEATURE, drift, include_random=False)
    assert found.contexts
    for pair in found.contexts:
        assert pair.base.context_index == pair.aligned.context_index
