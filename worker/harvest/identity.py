"""What decides a harvest's result, as one hash."""

import hashlib
import json
from collections.abc import Sequence

from core.domain.harvest import HarvestSpec
from worker.harvest.corpus_store import CorpusFacts
from worker.lm.load import LoadedModel
from worker.sae.activations import Gated, JumpRelu, Relu, TopK
from worker.sae.load import tensors_sha256
from worker.sae.model import SparseAutoencoder

FORMAT_VERSION = 1  # raised when the code gives other numbers for the same input
_SETTINGS = (
    "model_id",
    "dtype",
    "context_size",
    "max_norm_multiple",
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


_NAMES_NO_RESULT = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}


def spec_hash(
    spec: HarvestSpec,
    *,
    loaded: LoadedModel,
    saes: Sequence[SparseAutoencoder],
    corpus: CorpusFacts,
) -> str:
    """Hex sha256 over everything that decides the result.

    Revisions name weight files only, so what the configurations beside them decide is in it too:
    the model's configuration, and the SAE as it computes (a changed k or scaling changes it).

    Batch and shard sizes are not in it, since they change nothing; nor is the device, on which
    the result depends only within rounding.
    """
    settings = spec.model_dump(mode="json")
    identity = {
        "format": FORMAT_VERSION,
        "settings": {name: settings[name] for name in _SETTINGS},
        "model_revision": loaded.info.revision,
        "model_config": {
            name: value
            for name, value in loaded.model.config.to_diff_dict().items()
            if name not in _NAMES_NO_RESULT
        },
        "saes": [
            [entry.sae_id, sae.info.revision, sae.info.hook_name, computation_sha256(sae)]
            for entry, sae in zip(spec.saes, saes, strict=True)
        ],
        "corpus": corpus.corpus_hash,
        "tokens": corpus.tokens_hash,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def computation_sha256(sae: SparseAutoencoder) -> str:
    """Hex sha256 over an SAE as it encodes and decodes: tensors, activation and scaling."""
    tensors = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    match sae.activation:
        case Relu():
            kind = "relu"
        case TopK(k=k):
            kind = f"topk {k}"
        case JumpRelu(threshold=threshold):
            kind, tensors = "jumprelu", {**tensors, "threshold": threshold}
        case Gated(scale=scale, shift=shift):
            kind, tensors = "gated", {**tensors, "scale": scale, "shift": shift}
    words = (kind, sae.apply_b_dec_to_input, sae.info.normalize_activations)
    return hashlib.sha256(f"{words} {tensors_sha256(tensors)}".encode()).hexdigest()
