"""Every number of a run has its plot; plots without numbers go when the run has ended."""

import json

import pytest

from app.services.align import runs as align_runs
from app.web import run_plots
from tests.support.builders import SAE_ID
from tests.support.told_runs import start_run, told_run, told_sft, told_spec


def names(plots):
    """The metrics that plots draw."""
    return {line["name"] for plot in plots for line in json.loads(plot.data)}


def plots_of(session, job_id):
    run = align_runs.get_run(session, job_id)
    return run_plots.run_plots(run, align_runs.history(session, job_id))


def test_a_run_that_waits_for_its_first_step_has_all_plots(session):
    claim = start_run(session, told_spec("tdpo2"))
    found = plots_of(session, claim.job_id)
    assert {"loss", "rewards/chosen", "seq_kl/chosen", "tokens_per_second"} <= names(found)


def test_plots_without_a_number_are_left_out_of_an_ended_run(session):
    found = plots_of(session, told_run(session, "tdpo2", steps=20))
    assert "seq_kl/chosen" not in names(found)
    assert "eval_probe_kl/forward" in names(found)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("fpo", f"feature_divergence/{SAE_ID}/chosen"),
        ("dpo", f"eval_feature_divergence/{SAE_ID}/chosen"),
    ],
)
def test_the_divergence_is_of_every_step_only_where_the_loss_holds_it(session, method, name):
    assert name in names(plots_of(session, told_run(session, method, steps=20)))


def test_fine_tuning_has_no_plots_of_pairs(session):
    claim = start_run(session, told_sft())
    assert not {n for n in names(plots_of(session, claim.job_id)) if "rewards" in n}


def test_a_comparison_has_a_line_a_run_and_what_accuracy_costs(session):
    ids = [told_run(session, method, steps=20) for method in ("fpo", "simpo")]
    first, *rest = run_plots.compared_plots(align_runs.compare(session, ids))
    assert first.key == "tradeoff"
    assert not first.live
    assert all([line.table for line in plot.lines] == [str(i) for i in ids] for plot in rest)
