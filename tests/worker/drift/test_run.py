"""Drifts against a program that goes position by position, from a harvest to the stored rows."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from core.db.repositories import (
    drift_features,
    drift_material,
    drifts,
    feature_pages,
    jobs,
    samples,
)
from core.domain.activation import Band
from core.domain.align_jobs import DriftSpec
from core.domain.alignment import Lengths
from core.domain.ids import FeatureId
from core.domain.views_drift import DriftQuery, DriftRow, DriftSort, Place, Treatment
from core.errors import Cancelled, Conflict, ModelMissing, NotFound
from tests.support.dense_answers import SlowModel, SlowSae, answer_rows, sides_of
from tests.support.harvests import D_SAE, SINK_TOKEN, plant_sink
from tests.support.jobs import claimed_job
from tests.support.tiny_runs import tiny_pairs
from tests.support.tiny_tokenizer import tiny_tokenizer
from tests.support.tiny_world import MODEL_ID, SAE_ID, write_world
from worker.drift import keeper
from worker.drift.run import run_drift
from worker.harvest.run import run_harvest
from worker.lm.tokens import tokenization

LENGTHS = Lengths(max_length=128, max_prompt_length=96)
HELD, FREE = 3, 5


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Model, SAE, pairs and corpus on disk, and the model as a run might have changed it.

    One byte is an attention sink, which counts in answers and not in the corpus.
    """
    world = write_world(tmp_path_factory.mktemp("world"))
    plant_sink(world.folder / "model")
    write_aligned(world.folder / "model", world.folder / "aligned")
    return world


def write_aligned(base, folder):
    """The base model with every weight a little off."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05 * weight.std())
    model.save_pretrained(folder)
    tiny_tokenizer(None).save_pretrained(folder)


def spec_of(world, **changes) -> DriftSpec:
    return DriftSpec.model_validate(
        {
            "model_id": MODEL_ID,
            "model": world.model,
            "aligned_id": "tiny-aligned",
            "aligned_dir": str(world.folder / "aligned"),
            "method": "fpo",
            "saes": [world.sae],
            "constraint": [{**world.sae, "k": 4, "held": [{"feature": HELD}], "free": [FREE]}],
            "data": {"kind": "file", "path": str(world.folder / "pairs.jsonl")},
            "lengths": LENGTHS,
            "dtype": "float32",
            "device": "cpu",
            "batch_pairs": 3,
            "batch_contexts": 5,
            "sampling": {"n_prompts": 2, "max_new_tokens": 6},
            **changes,
        }
    )


def drifted(scope, folder, spec):
    with claimed_job(scope, spec, folder) as job:
        return run_drift(spec, job)


def harvested(world, scope, folder):
    with claimed_job(scope, world.harvest(), folder) as job:
        return run_harvest(world.harvest(), job)["harvest_id"]


def all_rows(scope, drift_id, **changes):
    query = DriftQuery(sort=DriftSort.INDEX, descending=False, limit=1_000, **changes)
    with scope() as session:
        return drift_features.list_rows(session, drift_id, sae_id=SAE_ID, query=query).rows


def both_models(world):
    return SlowModel(world.folder / "model"), SlowModel(world.folder / "aligned")


def slow_place(sae, base, aligned, *, by_item):
    """Numbers of one place, from each item's residuals in both models."""
    found = {}
    for name, items in (("base", base), ("aligned", aligned)):
        acts = [np.array([sae.encode(row) for row in rows]) for rows in items]
        rows, dense = np.concatenate(items), np.concatenate(acts)
        means = [a.mean(axis=0) for a in acts]
        found[f"{name}_mean"] = np.mean(means if by_item else dense, axis=0)
        found[f"{name}_density"] = (dense > 0).mean(axis=0)
        error = sum(np.sum((h - sae.decode(a)) ** 2) for h, a in zip(rows, dense, strict=True))
        found[f"{name}_ev"] = 1 - error / np.sum((rows - rows.mean(axis=0)) ** 2)
        found[f"{name}_l0"] = (dense > 0).sum(axis=1).mean()
    change = np.concatenate(aligned) - np.concatenate(base)
    mean = change.mean(axis=0)
    norms = np.linalg.norm(sae.W_dec, axis=1) * np.linalg.norm(mean)
    found["cosine"] = sae.W_dec @ mean / norms
    found["change_norm"] = np.linalg.norm(change, axis=1).mean()
    found["mean_change_norm"] = np.linalg.norm(mean)
    found["n_tokens"] = len(change)
    return found


def check_place(rows, facts, place, expected):
    for name in ("base_mean", "aligned_mean", "base_density", "aligned_density", "cosine"):
        got = [getattr(getattr(row, place.value), name) for row in rows]
        wanted = [expected[name][row.index] for row in rows]
        assert got == pytest.approx(wanted, rel=2e-4, abs=2e-6), (place, name)
    assert facts.n_tokens == expected["n_tokens"]
    for got, wanted in (
        (facts.base_explained_variance, expected["base_ev"]),
        (facts.aligned_explained_variance, expected["aligned_ev"]),
        (facts.base_l0, expected["base_l0"]),
        (facts.aligned_l0, expected["aligned_l0"]),
        (facts.change_norm, expected["change_norm"]),
        (facts.mean_change_norm, expected["mean_change_norm"]),
    ):
        assert got == pytest.approx(wanted, rel=1e-4)


def test_answers_corpus_and_contexts_are_those_of_plain_loops(world, session_scope, tmp_path):
    harvest_id = harvested(world, session_scope, tmp_path)
    spec = spec_of(world, saes=[{**world.sae, "harvest_id": harvest_id}])
    drift_id = drifted(session_scope, tmp_path, spec)["drift_id"]
    rows = all_rows(session_scope, drift_id)
    with session_scope() as session:
        (card,) = drifts.get_drift(session, drift_id).saes
        part = drift_material.stored_part(session, harvest_id, sae_id=SAE_ID)
        tokens = drift_material.read_tokens(session, harvest_id, part.random_contexts.tolist())
    sae, (base, aligned) = SlowSae(world.folder / "sae"), both_models(world)
    assert len(rows) > D_SAE // 2
    held_out = tiny_pairs(12, 4).held_out
    for side, place in enumerate((Place.CHOSEN, Place.REJECTED)):
        answers = [sides_of(pair, LENGTHS)[side] for pair in held_out]
        both = [[answer_rows(model, a, 1) for a in answers] for model in (base, aligned)]
        expected = slow_place(sae, *both, by_item=True)
        check_place(rows, card.places[place], place, expected)
    special = {*tokenization(tiny_tokenizer(None)).special_ids, SINK_TOKEN}

    def scored(model, ids):
        keep = [t for t, token in enumerate(ids.tolist()) if t > 0 and token not in special]
        return model.residual(ids, 1)[keep]

    contexts = [tokens[number] for number in part.random_contexts.tolist()]
    both = [[scored(model, ids) for ids in contexts] for model in (base, aligned)]
    expected = slow_place(sae, *both, by_item=False)
    check_place(rows, card.places[Place.CORPUS], Place.CORPUS, expected)
    check_contexts(session_scope, drift_id, rows, aligned=aligned, sae=sae, special=special)


def check_contexts(scope, drift_id, rows, *, aligned, sae, special):
    """Every stored context of every feature: base as harvested, aligned as recomputed."""
    n_contexts = 0
    for row in rows:
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=row.index)
        with scope() as session:
            found = drift_features.aligned_contexts(
                session, drift_id, sae_id=SAE_ID, index=row.index, include_random=True
            )
            page = feature_pages.feature_page(session, feature=feature, include_random=True)
        assert found.row == row
        assert len(found.contexts) == len(page.contexts)
        for pair, shown in zip(found.contexts, page.contexts, strict=True):
            assert pair.base.context_index == pair.aligned.context_index == shown.context_index
            assert pair.band == shown.band == pair.aligned.band
            assert np.array_equal(pair.base.activations, shown.activations)
            assert np.array_equal(pair.base.token_ids, pair.aligned.token_ids)
            ids = pair.base.token_ids
            stream = aligned.residual(ids, 1)
            wanted = [
                0.0 if t == 0 or token in special else sae.encode(stream[t])[row.index]
                for t, token in enumerate(ids.tolist())
            ]
            assert pair.aligned.activations.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-4)
            n_contexts += 1
    assert n_contexts > 100


def test_an_unchanged_model_has_not_moved(world, session_scope, tmp_path):
    harvest_id = harvested(world, session_scope, tmp_path)
    spec = spec_of(
        world,
        aligned_dir=str(world.folder / "model"),
        saes=[{**world.sae, "harvest_id": harvest_id}],
        sampling={"n_prompts": 1, "max_new_tokens": 4, "temperature": 0.8, "seed": 3},
    )
    drift_id = drifted(session_scope, tmp_path, spec)["drift_id"]
    rows = all_rows(session_scope, drift_id)
    for row in rows:
        for place in (row.chosen, row.rejected, row.corpus):
            assert place.delta == place.density_delta == 0.0
            assert place.cosine is None
        with session_scope() as session:
            found = drift_features.aligned_contexts(
                session, drift_id, sae_id=SAE_ID, index=row.index, include_random=True
            )
        for pair in found.contexts:
            assert pair.aligned.activations == pytest.approx(pair.base.activations, abs=1e-5)
        assert {pair.band for pair in found.contexts} >= {Band.TOP, Band.RANDOM}
    with session_scope() as session:
        (written,) = samples.get_samples(session, drift_id).pairs
    assert written.base == written.aligned


def test_batches_change_nothing_beyond_rounding(world, session_scope, tmp_path):
    harvest_id = harvested(world, session_scope, tmp_path)
    entry = {**world.sae, "harvest_id": harvest_id}
    found: list[tuple[DriftRow, ...]] = []
    for batches in ({"batch_pairs": 1, "batch_contexts": 1}, {"batch_pairs": 64}):
        spec = spec_of(world, saes=[entry], aligned_id=f"a{len(found)}", **batches)
        found.append(all_rows(session_scope, drifted(session_scope, tmp_path, spec)["drift_id"]))
    for one, other in zip(*found, strict=True):
        assert one.index == other.index
        for place in ("chosen", "rejected", "corpus"):
            a, b = getattr(one, place), getattr(other, place)
            assert a.aligned_mean == pytest.approx(b.aligned_mean, rel=1e-4, abs=1e-6)
            assert a.aligned_density == pytest.approx(b.aligned_density, abs=1e-9)


@pytest.mark.parametrize("last_look", [3, 6, 11, 14])
def test_an_interrupted_drift_goes_on_to_the_same_numbers(
    world, session_scope, tmp_path, monkeypatch, last_look
):
    harvest_id = harvested(world, session_scope, tmp_path)
    entry = {**world.sae, "harvest_id": harvest_id}
    whole = spec_of(world, saes=[entry])
    expected = all_rows(session_scope, drifted(session_scope, tmp_path, whole)["drift_id"])
    monkeypatch.setattr(keeper.Keeper, "due", True)
    cut = spec_of(world, saes=[entry], aligned_id="again")
    with claimed_job(session_scope, cut, tmp_path) as job:
        looks = 0
        real = job.check

        def check() -> None:
            nonlocal looks
            looks += 1
            if looks == last_look:
                raise Cancelled("Enough.")
            real()

        monkeypatch.setattr(job, "check", check)
        with pytest.raises(Cancelled):
            run_drift(cut, job)
        again = run_drift(cut, job)["drift_id"]
        assert isinstance(again, int)
        assert not list(job.work_dir.glob("*.npz"))
    assert all_rows(session_scope, again) == expected
    first = expected[0].index
    with session_scope() as session:
        found = [
            drift_features.aligned_contexts(session, one, sae_id=SAE_ID, index=first)
            for one in (again, again - 1)
        ]
    for one, other in zip(found[0].contexts, found[1].contexts, strict=True):
        assert np.array_equal(one.aligned.activations, other.aligned.activations)


def test_what_was_kept_of_other_settings_is_not_used(tmp_path):
    one = keeper.Keeper(tmp_path, identity="one")
    one.save("answers", {"x": np.arange(3)})
    kept = one.load("answers")
    assert kept is not None
    assert kept["x"].tolist() == [0, 1, 2]
    assert keeper.Keeper(tmp_path, identity="two").load("answers") is None
    one.clear()
    assert one.load("answers") is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_harvest_answers_are_compared_and_contexts_are_not(
    world, session_scope, tmp_path
):
    drift_id = drifted(session_scope, tmp_path, spec_of(world))["drift_id"]
    rows = all_rows(session_scope, drift_id)
    assert rows
    assert {row.corpus for row in rows} == {None}
    with session_scope() as session, pytest.raises(NotFound, match="no contexts"):
        drift_features.aligned_contexts(session, drift_id, sae_id=SAE_ID, index=rows[0].index)


def test_features_are_marked_by_their_treatment(world, session_scope, tmp_path):
    drift_id = drifted(session_scope, tmp_path, spec_of(world))["drift_id"]
    treated = {row.index: row.treatment for row in all_rows(session_scope, drift_id)}
    assert treated.get(HELD, Treatment.HELD) is Treatment.HELD
    assert treated.get(FREE, Treatment.FREE) is Treatment.FREE
    assert Treatment.OTHER in treated.values()
    held = all_rows(session_scope, drift_id, treatment=Treatment.HELD)
    assert [row.index for row in held] == [i for i, t in treated.items() if t is Treatment.HELD]


def test_lists_are_sorted_by_any_change_and_paged(world, session_scope, tmp_path):
    drift_id = drifted(session_scope, tmp_path, spec_of(world))["drift_id"]
    rows = all_rows(session_scope, drift_id)
    keys = {
        DriftSort.LARGEST: lambda row: max(abs(row.chosen.delta), abs(row.rejected.delta)),
        DriftSort.CHOSEN: lambda row: abs(row.chosen.delta),
        DriftSort.DENSITY_REJECTED: lambda row: abs(row.rejected.density_delta),
        DriftSort.COSINE_CHOSEN: lambda row: row.chosen.cosine,
        DriftSort.CORPUS: lambda row: 0.0 if row.corpus is None else abs(row.corpus.delta),
    }
    for sort, key in keys.items():
        expected = sorted(rows, key=lambda row: (-key(row), row.index))
        got, after = [], None
        while True:
            query = DriftQuery(sort=sort, after=after, limit=5)
            with session_scope() as session:
                page = drift_features.list_rows(session, drift_id, sae_id=SAE_ID, query=query)
            got += [row.index for row in page.rows]
            after = page.next_after
            if after is None:
                break
        assert got == [row.index for row in expected], sort


def test_samples_are_the_models_own_and_the_same_every_time(world, session_scope, tmp_path):
    spec = spec_of(world, sampling={"n_prompts": 3, "max_new_tokens": 5})
    with claimed_job(session_scope, spec, tmp_path) as job:
        drift_id = run_drift(spec, job)["drift_id"]
    with session_scope() as session:
        found = samples.get_samples(session, int(str(drift_id)))
        told = jobs.get_card(session, job.job_id).progress
    assert told is not None
    assert (told.phase, told.done, told.total) == ("samples", 3, 3)
    assert found.settings.temperature == 0.0
    assert [pair.position for pair in found.pairs] == [0, 1, 2]
    held_out = tiny_pairs(12, 4).held_out
    assert [pair.prompt for pair in found.pairs] == [pair.prompt for pair in held_out[:3]]
    model = AutoModelForCausalLM.from_pretrained(world.folder / "aligned", dtype=torch.float32)
    for pair, source in zip(found.pairs, held_out, strict=False):
        sequence = sides_of(source, LENGTHS)[0]
        ids = sequence.ids[: int(sequence.is_response.argmax())].tolist()
        assert pair.n_prompt_tokens == len(ids)
        for drawn in pair.aligned.token_ids:  # greedy, without a cache
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            assert logits[drawn] == pytest.approx(float(logits.max()), abs=1e-4)
            ids.append(drawn)
        assert pair.aligned.ended or len(pair.aligned.token_ids) == 5


def test_the_same_drift_is_made_once_and_a_feature_leads_to_its_runs(
    world, session_scope, tmp_path
):
    first = drifted(session_scope, tmp_path, spec_of(world))
    second = drifted(session_scope, tmp_path, spec_of(world, run_job_id=1))
    assert first["drift_id"] == second["drift_id"]
    assert (first["reused"], second["reused"]) == (False, True)
    with session_scope() as session:
        newest = drifts.newest_of_run(session, 1)
        index = all_rows(session_scope, first["drift_id"])[0].index
        feature = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)
        (found,) = drift_features.of_feature(session, feature)
    assert newest is not None
    assert (found.drift_id, found.run_job_id, found.method) == (newest.drift_id, 1, "fpo")


def test_the_default_saes_are_the_constraint_set_and_every_harvested_one(
    world, session_scope, tmp_path
):
    constraint = spec_of(world).constraint
    with session_scope() as session:
        (alone,) = drift_material.default_saes(session, model_id=MODEL_ID, constraint=constraint)
    assert alone.harvest_id is None
    harvest_id = harvested(world, session_scope, tmp_path)
    with session_scope() as session:
        found = drift_material.default_saes(session, model_id=MODEL_ID, constraint=constraint)
        others = drift_material.default_saes(session, model_id=MODEL_ID, constraint=())
    assert [(sae.sae_id, sae.harvest_id) for sae in found] == [(SAE_ID, harvest_id)]
    assert others == found


def test_what_does_not_belong_together_is_refused(world, session_scope, tmp_path):
    harvest_id = harvested(world, session_scope, tmp_path)
    entry = {**world.sae, "harvest_id": harvest_id}
    for changes, error in (
        ({"aligned_dir": str(tmp_path / "nowhere")}, ModelMissing),
        (
            {
                "model": {"kind": "folder", "location": str(world.folder / "aligned")},
                "saes": [entry],
            },
            Conflict,
        ),
        ({"saes": [{**world.sae, "harvest_id": 99}]}, NotFound),
        ({"data": {"kind": "file", "path": str(tmp_path / "none.jsonl")}}, NotFound),
    ):
        with pytest.raises(error):
            drifted(session_scope, tmp_path, spec_of(world, **changes))
    with session_scope() as session:
        assert drifts.list_drifts(session) == ()
