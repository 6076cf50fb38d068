"""Tokens with an outlying residual: which they are, and that a harvest may let them count."""

import torch

from core.db.session import session_scope
from tests.support.database import empty
from tests.support.harvests import SINK_TOKEN, harvested, llama_spec, sink_spec
from tests.support.jobs import claimed_job
from worker.harvest.prepare import prepare
from worker.lm.outliers import is_outlier


def test_an_outlier_is_longer_than_the_limit_and_nan_is_none():
    residual = torch.tensor([[3.0, 4.0], [0.0, 0.0], [float("nan"), 1.0], [0.0, -6.0]])
    assert is_outlier(residual, 5.0).tolist() == [False, False, False, True]
    assert not is_outlier(residual, None).any()
    assert is_outlier(residual.bfloat16().view(2, 2, 2), 5.0).shape == (2, 2)


def test_all_tokens_count_when_no_multiple_is_set(tmp_path, engine):
    spec = sink_spec(tmp_path, max_norm_multiple=None)
    with claimed_job(session_scope(engine), spec, tmp_path) as job:
        _, saes, facts = harvested(spec, job)
    empty(engine)
    assert [sae.n_scored for sae in saes] == [facts.n_scored] * len(saes)
    assert [sae.max_norm for sae in saes] == [None] * len(saes)
    peaks = {int(token) for sae in saes for token in sae.peak_token}
    assert SINK_TOKEN in peaks


def test_a_later_attempt_takes_the_limits_of_the_first(tmp_path, engine):
    """Whatever the limit, one holds for the whole corpus."""
    spec = llama_spec(tmp_path)
    with claimed_job(session_scope(engine), spec, tmp_path) as job:
        first = prepare(spec, job).norm_limits
        assert set(first) == {"blocks.0.hook_resid_post", "blocks.1.hook_resid_post"}
        job.finish_item("norm_limits", '{"blocks.0.hook_resid_post": 1.5}')
        assert prepare(spec, job).norm_limits == {"blocks.0.hook_resid_post": 1.5}
    empty(engine)
