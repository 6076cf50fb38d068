"""Contrasts against a program that goes answer by answer, position by position."""

from typing import Any

import numpy as np
import pytest
import torch

from core.db.repositories import contrasts, explanations
from core.domain.align_jobs import ContrastSpec
from core.domain.alignment import Lengths
from core.domain.explanation import Explanation, ExplanationMethod
from core.domain.ids import FeatureId
from core.domain.preference import content_hash
from core.domain.views_align import ContrastQuery, ContrastSort
from core.errors import Cancelled, Invalid, NotFound, SaeMismatch
from core.interchange.preferences import write_preferences
from tests.support.dense_answers import SlowModel, SlowSae, answer_rows, sides_of
from tests.support.harvests import D_SAE, write_sae
from tests.support.jobs import claimed_job
from tests.support.tiny_runs import tiny_pairs
from tests.support.tiny_world import MODEL_ID, SAE_ID, write_world
from worker.align.data.answers import draw_pairs
from worker.contrast.run import run_contrast

LENGTHS = Lengths(max_length=128, max_prompt_length=96)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Model, SAE and pairs on disk."""
    return write_world(tmp_path_factory.mktemp("world"))


def spec_of(world, **changes) -> ContrastSpec:
    return ContrastSpec.model_validate(
        {
            "model_id": MODEL_ID,
            "model": world.model,
            "saes": [world.sae],
            "data": {"kind": "file", "path": str(world.folder / "pairs.jsonl")},
            "max_pairs": None,
            "lengths": LENGTHS,
            "dtype": "float32",
            "device": "cpu",
            "batch_pairs": 5,
            **changes,
        }
    )


def slow_contrast(world, pairs):
    """Every number of a contrast, by loops."""
    model, sae = SlowModel(world.folder / "model"), SlowSae(world.folder / "sae")
    acts = [
        [
            np.array([sae.encode(row) for row in answer_rows(model, side, 1)])
            for side in sides_of(pair, LENGTHS)
        ]
        for pair in pairs
    ]
    chosen = np.array([both[0].mean(axis=0) for both in acts])
    rejected = np.array([both[1].mean(axis=0) for both in acts])
    d = chosen - rejected
    everything = np.concatenate([rows for both in acts for rows in both])
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = d.mean(axis=0) / d.std(axis=0, ddof=1)
    return {
        "mean_chosen": chosen.mean(axis=0),
        "mean_rejected": rejected.mean(axis=0),
        "difference": d.mean(axis=0),
        "effect_size": effect,
        "share_chosen": np.array([(a[0] > 0).any(axis=0) for a in acts]).mean(axis=0),
        "share_rejected": np.array([(a[1] > 0).any(axis=0) for a in acts]).mean(axis=0),
        "density": (everything > 0).mean(axis=0),
    }


def all_rows(scope, contrast_id, **changes):
    query = ContrastQuery(sort=ContrastSort.INDEX, descending=False, limit=1_000, **changes)
    with scope() as session:
        return contrasts.list_rows(session, contrast_id, sae_id=SAE_ID, query=query)


def test_every_number_is_that_of_plain_loops(world, session_scope, tmp_path):
    pairs = tiny_pairs(12, 4).train
    expected = slow_contrast(world, pairs)
    with claimed_job(session_scope, spec_of(world), tmp_path) as job:
        result = run_contrast(spec_of(world), job)
    found = all_rows(session_scope, result["contrast_id"])
    active = np.flatnonzero(expected["density"] > 0)
    assert len(active) > D_SAE // 2
    assert [row.index for row in found.rows] == active.tolist()
    assert found.n_matching == len(active)
    for name, values in expected.items():
        got = [getattr(row, name) for row in found.rows]
        assert got == pytest.approx(values[active].tolist(), rel=1e-4, abs=1e-6), name


def test_held_out_pairs_are_not_read_and_the_card_says_what_was(world, session_scope, tmp_path):
    with claimed_job(session_scope, spec_of(world), tmp_path) as job:
        result: Any = run_contrast(spec_of(world), job)
    with session_scope() as session:
        card = contrasts.get_contrast(session, result["contrast_id"])
    pairs = tiny_pairs(12, 4)
    sides = [sides_of(pair, LENGTHS) for pair in pairs.train]
    assert card.n_pairs == 12
    assert card.n_tokens_chosen == sum(chosen.n_response for chosen, _ in sides)
    assert card.n_tokens_rejected == sum(rejected.n_response for _, rejected in sides)
    assert card.preference_name == "pairs.jsonl"
    assert card.preference_hash == content_hash(pairs.pairs)
    assert [sae.sae_id for sae in card.saes] == [SAE_ID]
    assert card.saes[0].hook_name == "blocks.1.hook_resid_post"


def test_batches_change_nothing_and_the_same_contrast_is_made_once(world, session_scope, tmp_path):
    ids = []
    for batch in (1, 7):
        spec = spec_of(world, batch_pairs=batch, max_pairs=9)
        with claimed_job(session_scope, spec, tmp_path) as job:
            ids.append(run_contrast(spec, job))
    assert ids[0]["contrast_id"] == ids[1]["contrast_id"]
    assert (ids[0]["reused"], ids[1]["reused"]) == (False, True)
    assert ids[0]["n_pairs"] == 9


def test_a_drawn_sample_is_uniform_in_source_order_and_by_seed():
    pairs = tiny_pairs(40, 0).pairs
    first, other = draw_pairs(pairs, 10, seed=0), draw_pairs(pairs, 10, seed=1)
    assert [pair.row for pair in first] == sorted(pair.row for pair in first)
    assert first == draw_pairs(pairs, 10, seed=0)
    assert first != other
    assert set(draw_pairs(pairs[:30], 10, seed=0)) >= set(first) & set(pairs[:30])
    assert draw_pairs(pairs, None, seed=0) == pairs


def test_one_pair_has_no_effect_size(world, session_scope, tmp_path):
    spec = spec_of(world, max_pairs=1)
    with claimed_job(session_scope, spec, tmp_path) as job:
        result = run_contrast(spec, job)
    rows = all_rows(session_scope, result["contrast_id"]).rows
    assert rows
    assert {row.effect_size for row in rows} == {None}


def test_lists_are_sorted_filtered_and_paged(world, session_scope, tmp_path):
    with claimed_job(session_scope, spec_of(world), tmp_path) as job:
        result: Any = run_contrast(spec_of(world), job)
    contrast_id = result["contrast_id"]
    rows = all_rows(session_scope, contrast_id).rows
    explained = rows[3].index
    with session_scope() as session:
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=explained)
        text = Explanation(text="short colours", method=ExplanationMethod.HUMAN, author="ann")
        explanations.add(session, explanations.NewExplanation(feature=feature, explanation=text))
    for sort, key in (
        (ContrastSort.ABS_EFFECT, lambda row: abs(row.effect_size or 0.0)),
        (ContrastSort.EFFECT_SIZE, lambda row: row.effect_size or 0.0),
        (ContrastSort.ABS_DIFFERENCE, lambda row: abs(row.difference)),
        (ContrastSort.MEAN_REJECTED, lambda row: row.mean_rejected),
        (ContrastSort.DENSITY, lambda row: row.density),
    ):
        for descending in (True, False):
            sign = -1 if descending else 1
            expected = sorted(rows, key=lambda row: (sign * key(row), row.index))
            got, after = [], None
            while True:
                query = ContrastQuery(sort=sort, descending=descending, after=after, limit=4)
                with session_scope() as session:
                    page = contrasts.list_rows(session, contrast_id, sae_id=SAE_ID, query=query)
                got += [row.index for row in page.rows]
                after = page.next_after
                if after is None:
                    break
            assert got == [row.index for row in expected], (sort, descending)
    (only,) = all_rows(session_scope, contrast_id, words="colours").rows
    assert (only.index, only.explanation) == (explained, "short colours")
    assert all_rows(session_scope, contrast_id, explained=False).n_matching == len(rows) - 1
    dense = all_rows(session_scope, contrast_id, min_density=0.5).rows
    assert {row.index for row in dense} == {row.index for row in rows if row.density >= 0.5}
    shared = all_rows(session_scope, contrast_id, min_share=1.0).rows
    assert all(max(row.share_chosen, row.share_rejected) == 1.0 for row in shared)


def test_what_is_wrong_is_said_and_nothing_is_stored(world, session_scope, tmp_path):
    narrow = write_sae(tmp_path / "s", "jumprelu", hook_name="blocks.9.hook_resid_post", seed=1)
    wrong_sae = {"sae_id": "9-no", "source": {"kind": "folder", "location": str(narrow)}}
    held_out = tmp_path / "held.jsonl"
    write_preferences(tiny_pairs(0, 3).pairs, held_out)
    for changes, error in (
        ({"saes": [wrong_sae]}, SaeMismatch),
        ({"data": {"kind": "file", "path": str(held_out)}}, Invalid),
        ({"data": {"kind": "stored", "content_hash": "0" * 64}}, NotFound),
    ):
        spec = spec_of(world, **changes)
        with claimed_job(session_scope, spec, tmp_path) as job, pytest.raises(error):
            run_contrast(spec, job)
    with session_scope() as session:
        assert contrasts.list_contrasts(session) == ()


def test_a_cancelled_contrast_stores_nothing(world, session_scope, tmp_path):
    with claimed_job(session_scope, spec_of(world), tmp_path) as job:
        job._stop.set()
        with pytest.raises(Cancelled):
            run_contrast(spec_of(world), job)
    with session_scope() as session:
        assert contrasts.list_contrasts(session) == ()
