"""Runs are read with their newest numbers, compared, and told as files."""

import csv
import json

import pytest

from app.services.align import runs as align_runs
from core.db.repositories import explanations
from core.domain.explanation import Explanation, ExplanationMethod
from core.domain.ids import FeatureId
from core.domain.place import NewestPlace
from core.errors import Invalid, NotFound
from core.jobs import control
from tests.support.builders import MODEL_ID, SAE_ID
from tests.support.jobs import job_spec
from tests.support.told_runs import (
    fail_run,
    finish_run,
    start_run,
    tell_steps,
    told_run,
    told_sft,
    told_spec,
)


def moved_features(session, run):
    return align_runs.moved_features(session, run, homes=align_runs.feature_homes(session, run))


@pytest.fixture
def started(session):
    """A run of which twenty-five steps of sixty are told."""
    spec = told_spec("fpo")
    claim = start_run(session, spec)
    tell_steps(session, claim, spec, first=0, last=25, total=60)
    return claim


def test_a_run_has_its_first_and_newest_evaluation_and_its_newest_step(session, started):
    run = align_runs.get_run(session, started.job_id)
    assert run.start["step"] == 0
    assert run.evaluated["step"] == 20
    assert run.stepped["step"] == run.step == 25
    assert run.total_steps == 60
    assert run.start["eval_preference_accuracy"] < run.evaluated["eval_preference_accuracy"]
    assert run.sae_ids == (SAE_ID,)
    assert run.result_id == f"{MODEL_ID}-fpo"


def test_a_run_that_has_not_begun_has_no_numbers(session):
    claim = start_run(session, told_spec("dpo"))
    run = align_runs.get_run(session, claim.job_id)
    assert (run.step, run.total_steps, run.start, run.evaluated) == (None, None, {}, {})
    assert moved_features(session, run) is None
    assert align_runs.history(session, run.job_id).n_rows == 0


def test_runs_of_both_kinds_are_listed_newest_first_page_by_page(session, started):
    tuned = start_run(session, told_sft())
    harvest = control.submit(session, job_spec("work"))
    assert harvest > tuned.job_id
    found = align_runs.list_runs(session).runs
    assert [run.job_id for run in found] == [tuned.job_id, started.job_id]
    only = align_runs.list_runs(session, kind="sft").runs
    assert [run.result_id for run in only] == [f"{MODEL_ID}-sft"]
    rest = align_runs.list_runs(session, place=NewestPlace(before=tuned.job_id), limit=1)
    assert rest.place.previous_after == started.job_id
    assert [run.job_id for run in rest.runs] == [started.job_id]


def test_another_job_is_no_run(session):
    job_id = control.submit(session, job_spec("work"))
    with pytest.raises(NotFound):
        align_runs.get_run(session, job_id)


def test_a_history_goes_on_after_an_event(session, started):
    whole = align_runs.history(session, started.job_id)
    assert whole.steps == tuple(range(26))
    few = align_runs.history(session, started.job_id, most=10)
    assert few.n_rows <= 10
    assert few.steps[-1] == 25


def test_moved_features_are_sorted_by_size_and_have_their_newest_explanation(session, started):
    feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=1)
    for text in ("first thought", "second thought"):
        said = Explanation(text=text, method=ExplanationMethod.HUMAN, author="me")
        explanations.add(session, explanations.NewExplanation(feature=feature, explanation=said))
    run = align_runs.get_run(session, started.job_id)
    moved = moved_features(session, run)
    assert moved is not None
    assert moved.step == 25
    assert [f.index for f in moved.features] == [0, 1, 2]
    assert [f.explanation for f in moved.features] == [None, "second thought", None]
    assert moved.features[0].largest == 0.42


def test_runs_side_by_side_have_their_numbers_and_what_differs(session):
    one = told_run(session, "fpo", steps=40)
    other = told_run(session, "simpo", steps=20, seed=1, beta=2.0)
    found = align_runs.compare(session, [other, one, other])
    assert [run.job_id for run in found.runs] == [other, one]
    assert [table.steps[-1] for table in found.tables] == [20, 40]
    by_path = {row.path: row.values for row in found.differences}
    assert by_path["method"] == ("simpo", "fpo")
    assert by_path["beta"] == (2.0, 0.1)
    assert "alpha" not in by_path
    assert found.finals[:2] == ("eval_preference_accuracy", "eval_probe_kl/forward")
    assert "eval_runtime" not in found.finals


def test_settings_of_an_sae_are_compared_by_its_id():
    def spec(**constraint):
        return {"constraint": [{"sae_id": "12-a", "k": 50, **constraint}]}

    rows = align_runs.differences([spec(k=50), spec(k=60, held=[1]), {"constraint": []}])
    assert [(row.path, row.values) for row in rows] == [
        ("constraint.12-a.sae_id", ("12-a", "12-a", None)),
        ("constraint.12-a.k", (50, 60, None)),
        ("constraint.12-a.held", (None, [1], None)),
        ("constraint", (None, None, [])),
    ]


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_or_too_many_runs_are_not_compared(session, n):
    with pytest.raises(Invalid):
        align_runs.compare(session, list(range(1, n + 1)))


def test_every_number_is_in_the_files(session_scope):
    with session_scope() as session:
        job_id = told_run(session, "fpo", steps=30)
    lines = b"".join(align_runs.metric_file(session_scope, job_id, "jsonl")).splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(31))
    text = b"".join(align_runs.metric_file(session_scope, job_id, "csv")).decode()
    table = list(csv.DictReader(text.splitlines()))
    assert len(table) == 31
    assert float(table[7]["rewards/margins"]) == rows[7]["rewards/margins"]
    assert table[7]["eval_loss"] == ""


def test_a_failed_run_and_a_finished_one_are_told_as_they_ended(session, started):
    fail_run(session, started)
    run = align_runs.get_run(session, started.job_id)
    assert run.job.error_code == "training_diverged"
    spec = told_sft()
    claim = start_run(session, spec)
    tell_steps(session, claim, spec, first=0, last=20, total=20)
    finish_run(session, claim, steps=20)
    tuned = align_runs.get_run(session, claim.job_id)
    assert tuned.sae_ids == ()
    assert "eval_preference_accuracy" not in tuned.evaluated
    assert moved_features(session, tuned) is None
