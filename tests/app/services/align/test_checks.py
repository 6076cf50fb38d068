"""Checks find what can be known before a run, and every finding has its words."""

from typing import Any

import numpy as np
import pytest

from app.services.align.checks.report import report
from app.services.align.checks.values import Concern, Known, Outcome
from app.services.align.costs import ModelSizes, SaeSizes
from app.services.align.data import DataFacts
from app.services.harvest.estimate import Machine
from app.web import check_words
from core.domain.alignment import AlignSpec
from core.domain.preference import RejectedRow, RejectReason
from core.errors import NotFound

MACHINE = Machine(n_cores=2, memory_bytes=8 * 10**9, disk_bytes=50 * 10**9)


def facts(**changes):
    values = {
        "n_rows": 110,
        "n_train": 100,
        "n_held_out": 10,
        "rejected": {},
        "first_rejected": None,
        "prompt_characters": np.full(100, 80),
        "answer_characters": np.full(100, 120),
    }
    return DataFacts(**{**values, **changes})


def known(**changes):
    values = {
        "data": facts(),
        "model": ModelSizes(d_model=64, n_layers=4, vocab_size=1_000),
        "context_limit": 2_048,
        "saes": {"1-x": SaeSizes(sae_id="1-x", d_in=64, d_sae=512, l0=20.0)},
        "hooks": {"1-x": "blocks.1.hook_resid_post"},
        "architectures": {"1-x": "jumprelu"},
        "scalings": {"1-x": "none"},
        "strangers": {},
        "taken_ids": frozenset(),
        "machine": MACHINE,
    }
    return Known(**{**values, **changes})


def spec(**changes):
    constraint = {
        "sae_id": "1-x",
        "source": {"kind": "hub", "location": "r", "release_id": "s"},
        **changes.pop("constraint", {}),
    }
    values = {
        "model_id": "m",
        "model": {"kind": "hub", "location": "a/m"},
        "aligned_id": "m2",
        "constraint": [constraint],
        "device": "cpu",
        "training": {"optimizer": {"warmup_steps": 1}, "batch_size": 8},
        **changes,
    }
    return AlignSpec.model_validate(values)


def found(settings, name, **changes):
    return [c for c in report(settings, known(**changes)).checks if c.name is name]


def test_a_sound_run_passes_every_check():
    seen = report(spec(), known())
    assert {check.outcome for check in seen.checks} == {Outcome.PASSED}
    assert seen.n_steps == 13
    assert seen.cache_bytes == 110 * (8 + 2 * 8 * 512)
    assert seen.failed == ()


CASES: dict[str, tuple[Any, ...]] = {
    "data gone": (
        {},
        {"data": NotFound("x.jsonl does not exist.")},
        Concern.DATA,
        "failed",
    ),
    "no training row": ({}, {"data": facts(n_train=0)}, Concern.DATA, "failed"),
    "data without lengths": (
        {},
        {"data": facts(prompt_characters=np.zeros(0, int), answer_characters=np.zeros(0, int))},
        Concern.CACHE,
        "unknown",
    ),
    "hub data": ({}, {"data": None}, Concern.DATA, "unknown"),
    "nothing held out": ({}, {"data": facts(n_held_out=0)}, Concern.HELD_OUT, "warning"),
    "long answers": (
        {"lengths": {"max_length": 40, "max_prompt_length": 20}},
        {},
        Concern.LENGTHS,
        "warning",
    ),
    "beyond the context": ({}, {"context_limit": 512}, Concern.CONTEXT, "failed"),
    "model not here": ({}, {"model": None}, Concern.MODEL, "unknown"),
    "own id": ({"aligned_id": "m"}, {}, Concern.RESULT_ID, "failed"),
    "taken id": ({}, {"taken_ids": frozenset({"m2"})}, Concern.RESULT_ID, "warning"),
    "SAE not here": ({}, {"saes": {}}, Concern.SAE, "unknown"),
    "SAE of another width": (
        {},
        {"saes": {"1-x": SaeSizes(sae_id="1-x", d_in=32, d_sae=512, l0=20.0)}},
        Concern.SAE,
        "failed",
    ),
    "gated SAE": ({}, {"architectures": {"1-x": "gated"}}, Concern.SAE, "failed"),
    "scaling SAE": ({}, {"scalings": {"1-x": "layer_norm"}}, Concern.SAE, "failed"),
    "SAE of another model": (
        {},
        {"strangers": {"1-x": "other"}},
        Concern.STRANGER,
        "warning",
    ),
    "layer beyond": (
        {},
        {"hooks": {"1-x": "blocks.4.hook_resid_post"}},
        Concern.HOOK,
        "failed",
    ),
    "unknown hook": ({}, {"hooks": {"1-x": "nowhere"}}, Concern.HOOK, "failed"),
    "feature beyond": (
        {"constraint": {"held": [{"feature": 512}]}},
        {},
        Concern.FEATURES,
        "failed",
    ),
    "k beyond": ({"constraint": {"k": 513}}, {}, Concern.FEATURES, "failed"),
    "features chosen": ({"constraint": {"free": [3]}}, {}, Concern.FEATURES, "passed"),
    "long warm-up": (
        {"training": {"optimizer": {"warmup_steps": 150}}},
        {},
        Concern.WARMUP,
        "warning",
    ),
    "uneven batch": (
        {"training": {"batch_size": 10, "micro_batch_size": 4}},
        {},
        Concern.BATCH,
        "warning",
    ),
    "online reference": ({"method": "tdpo1"}, {}, Concern.REFERENCE, "warning"),
    "cache unknown": (
        {},
        {"saes": {"1-x": SaeSizes(sae_id="1-x", d_in=64, d_sae=512, l0=None)}},
        Concern.CACHE,
        "unknown",
    ),
    "memory short": (
        {},
        {"machine": Machine(n_cores=2, memory_bytes=10**8, disk_bytes=10**12)},
        Concern.MEMORY,
        "warning",
    ),
    "memory of an accelerator": ({"device": "cuda"}, {}, Concern.MEMORY, "passed"),
    "disk short": (
        {},
        {"machine": Machine(n_cores=2, memory_bytes=10**12, disk_bytes=10**3)},
        Concern.DISK,
        "warning",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_and_said(case):
    settings, changes, name, outcome = CASES[case]
    checks = [c for c in found(spec(**settings), name, **changes) if c.outcome == outcome]
    assert checks
    for check in checks:
        assert check_words.title(check)
        assert check_words.sentence(check)
        assert "%" not in check_words.sentence(check) + check_words.hint(check)
        if outcome in {"warning", "failed"}:
            assert check.path
            assert check_words.hint(check) or check.text
        assert check_words.problem(check).path == check.path


def test_the_first_refused_row_is_told():
    row = RejectedRow(
        row=7, reason=RejectReason.EMPTY_ANSWER, detail="chosen is empty.", preview=""
    )
    data = facts(rejected={RejectReason.EMPTY_ANSWER: 3}, first_rejected=row)
    (check,) = found(spec(), Concern.REFUSED, data=data)
    assert check_words.sentence(check) == "3 of 110 rows are not used; row 7: chosen is empty."
