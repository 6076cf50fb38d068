"""The KL on probe positions is the exact one, and is remembered."""

import pytest
import torch

from core.domain.alignment import Lengths
from tests.support.tiny_runs import CPU, tiny_loaded, tiny_pairs
from worker.align.data.pairs import collate, encode_pairs
from worker.align.policy import Policy
from worker.align.reference_cache import ReferenceModel
from worker.align.training.probe import make_probe

F64 = torch.float64


def probe_of(tmp_path, n_rows: int, n_pairs: int = 4):
    loaded = tiny_loaded()
    pairs = encode_pairs(
        tiny_pairs(n_pairs, 0).pairs,
        tokenizer=loaded.tokenizer,
        lengths=Lengths(max_length=128, max_prompt_length=96),
    )
    made = make_probe(
        pairs,
        policy=Policy(loaded.model, compute=F64),
        model=ReferenceModel(revision="m", compute=F64),
        n_rows=n_rows,
        root=tmp_path,
        pad_id=0,
        device=CPU,
    )
    return pairs, made


@pytest.mark.parametrize("n_rows", [1, 9, 60])
def test_it_is_the_mean_kl_of_whole_distributions(tmp_path, n_rows):
    pairs, probe = probe_of(tmp_path, n_rows)
    base, moved = tiny_loaded(), tiny_loaded(seed=1)
    forward, reverse, left = [], [], n_rows
    for pair in pairs:
        for sequence in (pair.chosen, pair.rejected):
            tokens = collate([sequence], pad_id=0)
            with torch.no_grad():
                p, q = (
                    m.model(tokens.input_ids).logits[0][tokens.targets.mask[0]].log_softmax(-1)
                    for m in (base, moved)
                )
            for ref, policy in zip(p, q, strict=True):
                if left:
                    forward.append((ref.exp() * (ref - policy)).sum())
                    reverse.append((policy.exp() * (policy - ref)).sum())
                    left -= 1
    found = probe.measure(Policy(moved.model, compute=F64), CPU)
    assert found.forward == pytest.approx(float(torch.stack(forward).mean()), rel=1e-9)
    assert found.reverse == pytest.approx(float(torch.stack(reverse).mean()), rel=1e-9)
    assert sum(probe.rows) == len(forward)


def test_the_reference_is_at_distance_0_and_read_from_disk_the_second_time(tmp_path):
    _, probe = probe_of(tmp_path, 12)
    found = probe.measure(Policy(tiny_loaded().model, compute=F64), CPU)
    assert found.forward == pytest.approx(0, abs=1e-12)
    (file,) = tmp_path.glob("*.safetensors")
    written = file.stat().st_mtime_ns
    probe_of(tmp_path, 12)
    assert file.stat().st_mtime_ns == written


def test_a_probe_without_pairs_measures_nothing(tmp_path):
    _, probe = probe_of(tmp_path, 12, n_pairs=0)
    assert probe.sequences == ()
