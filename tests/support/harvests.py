"""A tiny model, tiny SAEs and a small corpus on disk, and the harvest's settings that name them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from core.domain.activation import SaeHarvest, StoredContexts
from core.domain.corpus import FileCorpusSpec
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.model import Dtype, ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource
from tests.support.tiny_models import tiny_gemma2, tiny_llama
from tests.support.tiny_tokenizer import VOCAB_SIZE, tiny_tokenizer
from worker.harvest.assemble import choose_contexts, sae_harvest, stored_contexts
from worker.harvest.corpus_store import CorpusFacts
from worker.harvest.one_pass import OnePass
from worker.harvest.prepare import prepare
from worker.harvest.relations import find_relations
from worker.progress import JobContext

D_IN, D_SAE, CONTEXT_SIZE = 16, 24, 12
SINK_TOKEN = 3 + ord("f") - ord("!")  # the tokenizer's bytes begin after three special tokens
WORDS = "the|cat|saw|<eos>|a|blue|house|of|12|naïve|ünits\n\tand|ran|away|東京|quickly|"


def write_model(folder: Path, family: str) -> Path:
    """A random model of three layers with a byte tokenizer, in float32."""
    make = {"gemma2": tiny_gemma2, "llama": tiny_llama}[family]
    model = make(
        seed=3, dtype=torch.float32, vocab_size=VOCAB_SIZE, num_hidden_layers=3, head_dim=8
    )
    model.save_pretrained(folder)
    tiny_tokenizer(None).save_pretrained(folder)
    return folder


def plant_sink(model: Path) -> None:
    """Make the residual of a model's byte "f" about 200 times as long."""
    weights = model / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"][SINK_TOKEN] *= 200.0
    save_file(tensors, weights, metadata={"format": "pt"})


def write_corpus_file(path: Path, *, n_documents: int = 14, seed: int = 0) -> Path:
    """JSON lines of very different lengths, one of them without text."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_documents):
            words = rng.choice(WORDS.split("|"), size=3 + 5 * (number % 4))
            text = "" if number == 5 else " ".join(words)
            file.write(json.dumps({"text": text}) + "\n")
    return path


def sae_tensors(seed: int, *, d_in: int = D_IN, d_sae: int = D_SAE) -> dict[str, torch.Tensor]:
    """Every parameter random, biases and thresholds too; about a third of the features fire."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    threshold = torch.rand(d_sae, generator=generator)
    threshold[0] = 1e6  # a dead feature
    return {
        "W_enc": noise(d_in, d_sae, scale=0.3),
        "W_dec": noise(d_sae, d_in, scale=0.3),
        "b_enc": noise(d_sae, scale=0.3) - 0.6,
        "b_dec": noise(d_in, scale=0.1),
        "threshold": threshold,
    }


def write_npz(folder: Path, seed: int) -> Path:
    """An SAE as Gemma Scope stores it."""
    folder.mkdir(parents=True)
    tensors = {name: tensor.numpy() for name, tensor in sae_tensors(seed).items()}
    np.savez(folder / "params.npz", allow_pickle=False, **tensors)
    return folder / "params.npz"


def write_sae(folder: Path, architecture: str, *, hook_name: str, seed: int) -> Path:
    """An SAE as sae-lens stores it: standard, topk or jumprelu."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": architecture == "standard",
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "hook_name": hook_name,
            "model_name": "tiny",
            "prepend_bos": True,
        },
        "architecture": architecture,
    }
    tensors = sae_tensors(seed)
    if architecture != "jumprelu":
        del tensors["threshold"]
    if architecture == "topk":
        config |= {"k": 5, "rescale_acts_by_decoder_norm": False}
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def harvested(
    spec: HarvestSpec, job: JobContext
) -> tuple[StoredContexts, list[SaeHarvest], CorpusFacts]:
    """Stored contexts and every SAE's harvest, as they go to the database."""
    prepared = prepare(spec, job)
    states = OnePass(spec, prepared, job).run()
    relations = find_relations(spec, prepared, states, job)
    kept = [choose_contexts(spec, state) for state in states]
    saes = [
        sae_harvest(
            spec,
            prepared.store,
            state=state,
            kept=rows,
            relations=related,
            max_norm=prepared.norm_limits.get(sae.info.hook_name),
        )
        for sae, state, rows, related in zip(prepared.saes, states, kept, relations, strict=True)
    ]
    return stored_contexts(spec, prepared.store, kept), saes, prepared.store.facts


def gemma_spec(folder: Path, **changes: Any) -> HarvestSpec:
    """A tiny Gemma-2 with one Gemma Scope npz on layer 1."""
    hook_name = "blocks.1.hook_resid_post"
    npz = write_npz(folder / "npz", seed=1)
    sae = SaeSource(kind=SaeKind.NPZ, location=str(npz), hook_name=hook_name)
    return _spec(folder, "gemma2", {"1-tiny-res": sae}, changes)


def llama_spec(folder: Path, **changes: Any) -> HarvestSpec:
    """A tiny Llama with three SAEs of different kinds on two layers."""
    saes = {
        f"{layer}-{architecture}": SaeSource(
            kind=SaeKind.FOLDER,
            location=str(
                write_sae(
                    folder / architecture,
                    architecture,
                    hook_name=f"blocks.{layer}.hook_resid_post",
                    seed=layer + 10,
                )
            ),
        )
        for layer, architecture in ((0, "standard"), (1, "topk"), (1, "jumprelu"))
    }
    return _spec(folder, "llama", saes, changes)


def sink_spec(folder: Path, **changes: Any) -> HarvestSpec:
    """The tiny Llama with its SAEs, whose byte "f" is an attention sink."""
    spec = llama_spec(folder, **changes)
    plant_sink(Path(spec.model.location))
    return spec


def _spec(
    folder: Path, family: str, saes: dict[str, SaeSource], changes: dict[str, Any]
) -> HarvestSpec:
    model = write_model(folder / family, family)
    corpus = write_corpus_file(folder / "corpus.jsonl")
    settings: dict[str, Any] = {
        "model_id": f"tiny-{family}",
        "model": ModelSource(kind=ModelKind.FOLDER, location=str(model)),
        "saes": tuple(SaeEntry(sae_id=name, source=source) for name, source in saes.items()),
        "corpus": FileCorpusSpec(path=str(corpus)),
        "dtype": Dtype.FLOAT32,
        "device": "cpu",
        "context_size": CONTEXT_SIZE,
        "n_top": 4,
        "n_sampled": 9,
        "n_per_band": 2,
        "n_random": 5,
        "n_coactivation": 20,
        "n_neighbours": 3,
        "n_logits": 4,
        "seed": 11,
        "tile_contexts": 4,
        "batch_tiles": 2,
        "shard_contexts": 16,
    }
    return HarvestSpec(**(settings | changes))
