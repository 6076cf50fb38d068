"""The offline reference: exact, resumable, shared by runs, and checked before it is used."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.alignment import Lengths, Method
from core.errors import Cancelled, Invalid
from tests.support.tiny_runs import (
    CPU,
    Recorder,
    run_tiny,
    sae_entry,
    tiny_constraints,
    tiny_loaded,
    tiny_pairs,
    tiny_spec,
)
from worker.align.data.pairs import PaddingSide, collate_pairs, encode_pairs
from worker.align.objective import OnlineReference, PreferenceObjective
from worker.align.policy import Policy, read_batch
from worker.align.pooling import pool_features
from worker.align.reference_cache import (
    ReferenceCache,
    ReferenceModel,
    build_reference,
    missing_shards,
    plan_reference,
    remove_damaged,
    verify_reference,
)
from worker.align.training.metrics import read_metrics
from worker.align.training.observer import METRICS

F64 = torch.float64


def _go_on(_n_pairs: int) -> None:
    pass


class World:
    """A reference of ten pairs in shards of four, with two SAEs."""

    def __init__(self, root, *, n_pairs: int = 10, saes: int = 2, revision: str = "m") -> None:
        loaded = tiny_loaded()
        self.policy = Policy(loaded.model, compute=F64)
        entries = [sae_entry("0-tiny"), sae_entry("1-tiny")][:saes]
        self.constraints = tiny_constraints(entries)
        self.pairs = encode_pairs(
            tiny_pairs(n_pairs, 0).pairs,
            tokenizer=loaded.tokenizer,
            lengths=Lengths(max_length=128, max_prompt_length=96),
        )
        self.plan = plan_reference(
            self.pairs,
            model=ReferenceModel(revision=revision, compute=F64),
            constraints=self.constraints,
            root=root,
            shard_pairs=4,
        )

    def build(self, shards=None, *, after=_go_on) -> None:
        build_reference(
            self.plan,
            self.pairs,
            policy=self.policy,
            constraints=self.constraints,
            batch_pairs=3,
            pad_id=0,
            device=CPU,
            shards=missing_shards(self.plan) if shards is None else shards,
            after_batch=after,
        )

    @property
    def cache(self) -> ReferenceCache:
        return ReferenceCache(self.plan, self.constraints)

    def verify(self) -> None:
        verify_reference(
            self.cache,
            self.pairs,
            policy=self.policy,
            constraints=self.constraints,
            compute=F64,
            pad_id=0,
            device=CPU,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("reference"))
    made.build()
    return made


def test_every_number_is_the_model_s(world):
    tokens = collate_pairs(world.pairs, pad_id=0).tokens
    with torch.no_grad():
        reading = read_batch(
            world.policy, tokens, hook_names=[c.hook_name for c in world.constraints]
        )
    order = [7, 0, 9, 3]
    logps = world.cache.logps(order)
    both = torch.cat((logps.chosen, logps.rejected))
    rows = order + [10 + i for i in order]
    torch.testing.assert_close(both, reading.logps.summed[rows], rtol=1e-12, atol=1e-12)
    for c, stream in zip(world.constraints, reading.taps, strict=True):
        dense = pool_features(hidden=stream, mask=tokens.targets.mask, encoder=c.encoder).means
        stored = world.cache.means(c.sae_id, order)
        torch.testing.assert_close(stored, dense[rows], rtol=1e-12, atol=1e-12)
        assert 0 < (stored > 0).sum() < stored.numel()


def test_only_non_zeros_are_stored(world):
    shard = load_file(world.plan.features["0-tiny"] / "000000.safetensors")
    assert (shard["values"] > 0).all()
    assert len(shard["offsets"]) == 2 * 4 + 1
    assert shard["offsets"][-1] == len(shard["values"]) == len(shard["indices"])


def test_the_last_short_shard_is_there(world):
    assert world.plan.n_shards == 3
    assert missing_shards(world.plan) == []
    assert len(load_file(world.plan.logps / "000002.safetensors")["logps"]) == 2


def test_a_stopped_build_goes_on_after_its_last_whole_shard(tmp_path):
    world = World(tmp_path)

    told: list[int] = []

    def stop(n_pairs: int) -> None:
        told.append(n_pairs)
        if sum(told) > 4:  # within the second shard
            raise Cancelled("Stop.")

    with pytest.raises(Cancelled):
        world.build(after=stop)
    assert told == [3, 1, 3]
    assert missing_shards(world.plan) == [1, 2]
    first = world.plan.logps / "000000.safetensors"
    written = first.stat().st_mtime_ns
    world.build()
    assert missing_shards(world.plan) == []
    assert first.stat().st_mtime_ns == written
    assert not list(tmp_path.rglob(".*"))


def test_another_sae_adds_a_part_and_leaves_the_others(tmp_path):
    one = World(tmp_path, saes=1)
    one.build()
    both = World(tmp_path, saes=2)
    assert both.plan.logps == one.plan.logps
    assert both.plan.features["0-tiny"] == one.plan.features["0-tiny"]
    assert missing_shards(both.plan) == [0, 1, 2]
    written = (one.plan.logps / "000000.safetensors").stat().st_mtime_ns
    both.build()
    assert (one.plan.logps / "000000.safetensors").stat().st_mtime_ns == written
    both.verify()


@pytest.mark.parametrize("change", [{"revision": "other"}, {"n_pairs": 9}])
def test_another_model_or_other_data_have_another_place(tmp_path, change):
    assert World(tmp_path, **change).plan.logps != World(tmp_path).plan.logps


def test_a_cache_of_another_model_is_refused(tmp_path):
    world = World(tmp_path)
    world.build()
    world.verify()
    world.policy = Policy(tiny_loaded(seed=1).model, compute=F64)
    with pytest.raises(Invalid, match="differ"):
        world.verify()


def test_a_tampered_feature_is_noticed(tmp_path):
    world = World(tmp_path, n_pairs=3)
    world.build()
    path = world.plan.features["1-tiny"] / "000000.safetensors"
    shard = load_file(path)
    shard["values"] *= 1.01
    save_file(shard, path)
    with pytest.raises(Invalid, match="1-tiny"):
        world.verify()


@pytest.mark.parametrize("harm", ["flipped bit", "torn", "empty"])
def test_a_damaged_shard_is_found_wherever_it_is_hurt_and_computed_again(tmp_path, harm):
    world = World(tmp_path, n_pairs=6)
    world.build()
    path = world.plan.features["1-tiny"] / "000001.safetensors"
    whole = path.read_bytes()
    numbers = {name: tensor.clone() for name, tensor in load_file(path).items()}
    flipped = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    path.write_bytes({"flipped bit": flipped, "torn": whole[:-40], "empty": b""}[harm])
    assert remove_damaged(world.plan) == [path]
    assert missing_shards(world.plan) == [1]
    world.build()
    assert all(torch.equal(numbers[name], again) for name, again in load_file(path).items())
    assert remove_damaged(world.plan) == []


def test_a_run_mends_the_damaged_cache_that_it_finds(tmp_path):
    run_tiny(tiny_spec({"max_steps": 1}), tmp_path / "one")
    for path in (tmp_path / "reference").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    sink = Recorder()
    run_tiny(tiny_spec({"max_steps": 1}), tmp_path / "two", sink=sink)
    assert any("Damaged shards" in line for line in sink.lines)
    losses = [read_metrics(tmp_path / run / METRICS)[-1]["loss"] for run in ("one", "two")]
    assert losses[0] == losses[1]


def test_a_second_run_with_another_method_computes_nothing_again(tmp_path):
    sink = Recorder()
    run_tiny(tiny_spec({"max_steps": 1}), tmp_path / "fpo")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "reference").rglob("*.safetensors")}
    run_tiny(tiny_spec({"max_steps": 1}, method=Method.DPO), tmp_path / "dpo", sink=sink)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "reference").rglob("*.safetensors")}
    assert before == after
    assert any("earlier run" in line for line in sink.lines)


@pytest.mark.parametrize("side", PaddingSide)
@pytest.mark.parametrize("method", [Method.FPO, Method.DPO])
def test_cached_and_online_reference_give_the_same_losses_and_gradients(world, method, side):
    policy = Policy(tiny_loaded(seed=2).model, compute=F64)
    policy.model.requires_grad_(True)
    constraints = world.constraints
    spec = tiny_spec(method=method, constraint=(sae_entry("0-tiny"), sae_entry("1-tiny")))
    online = OnlineReference(
        world.policy, world.pairs, constraints=constraints, pad_id=0, device=CPU
    )

    def losses(reference, side=PaddingSide.RIGHT):
        objective = PreferenceObjective(
            spec=spec,
            pairs=world.pairs,
            places=range(10),
            reference=reference,
            constraints=constraints,
            online=None,
            pad_id=0,
            device=CPU,
            side=side,
        )
        found = objective.read(policy, [1, 4, 8], training=True)
        gradients = torch.autograd.grad(found.losses.sum(), list(policy.parameters()))
        return found.losses, gradients

    expected, expected_gradients = losses(online)
    got, gradients = losses(world.cache, side)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
