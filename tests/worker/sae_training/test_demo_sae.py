"""The SAE that ships with the demo is the one its record and its page describe."""

import json
from pathlib import Path

import pytest

from worker.packages import file_sha256

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "worker/demo_saes/15-demo-res-4k"
RECORD = json.loads((FOLDER / "record.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/demo-saes.md").read_text(encoding="utf-8")


def test_the_weights_are_those_the_record_was_made_from():
    assert file_sha256(FOLDER / "sae_weights.safetensors") == RECORD["sae_weights_sha256"]
    assert (FOLDER / "sae_weights.safetensors").stat().st_size < 25_000_000


def test_the_sae_is_as_good_as_was_aimed_for():
    held_out = RECORD["held_out"]
    assert held_out["explained_variance"] >= 0.80
    assert held_out["l0"] <= 64
    assert held_out["dead_share"] <= 0.10
    assert RECORD["training"]["distinct_tokens"] >= 2_000_000


@pytest.mark.parametrize(
    "shown",
    [
        f"{RECORD['training']['distinct_tokens']:,} distinct tokens",
        f"{RECORD['training']['tokens_seen']:,} seen",
        f"| {RECORD['held_out']['l0']:.1f} |",
        f"| {RECORD['held_out']['explained_variance']:.3f} |",
        f"| {RECORD['held_out']['explained_variance_with_sinks']:.3f} |",
        f"| {RECORD['held_out']['dead_share']:.1%} |".replace("%", " %"),
        " / ".join(
            f"{RECORD['cross_entropy_nats'][name]:.3f}"
            for name in ("clean", "with_sae", "with_zero")
        ),
        " / ".join(
            f"{RECORD['cross_entropy_nats'][name]:.3f}"
            for name in ("recovered", "recovered_from_mean")
        ),
        *(source["package"].replace("==", " ") for source in RECORD["corpus"]),
    ],
)
def test_the_page_shows_the_number_of_the_record(shown):
    assert shown in PAGE
