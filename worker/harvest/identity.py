"""What decides a harvest's result, as one hash."""

import hashlib
import json
from collections.abc import Sequence

from core.domain.harvest import HarvestSpec
from core.domain.model import ModelInfo
from core.domain.sae import SaeInfo
from worker.harvest.corpus_store import CorpusFacts

FORMAT_VERSION = 1  # raised when the code gives other numbers for the same input
_SETTINGS = (
    "model_id",
    "dtype",
    "context_size",
    "n_top",
    "n_sampled",
    "n_per_band",
    "n_random",
    "n_coactivation",
    "n_neighbours",
    "n_logits",
    "seed",
    "tile_contexts",
)


def spec_hash(
    spec: HarvestSpec, *, model: ModelInfo, saes: Sequence[SaeInfo], corpus: CorpusFacts
) -> str:
    """Hex sha256 over everything that decides the result.

    Batch and shard sizes are not in it, since they change nothing; nor is the device, on which
    the result depends only within rounding.
    """
    settings = spec.model_dump(mode="json")
    identity = {
        "format": FORMAT_VERSION,
        "settings": {name: settings[name] for name in _SETTINGS},
        "model_revision": model.revision,
        "saes": [
            [entry.sae_id, info.revision, info.hook_name]
            for entry, info in zip(spec.saes, saes, strict=True)
        ],
        "corpus": corpus.corpus_hash,
        "tokens": corpus.tokens_hash,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
