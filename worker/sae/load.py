"""Sparse autoencoders from wherever they are stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from core.domain.sae import SaeKind, SaeSource
from core.errors import ModelMissing, SaeMismatch
from worker.content_hash import content_sha256
from worker.device import choose_device
from worker.lm.hooks import find_tap
from worker.lm.load import LoadedModel
from worker.memory import memory_errors
from worker.sae.build import build_sae
from worker.sae.gemma_scope import params_path, read_params
from worker.sae.model import SparseAutoencoder
from worker.sae.sae_lens_folder import WEIGHTS_FILE, read_folder, read_record
from worker.sae.sae_lens_release import read_release

_PROJECT = Path(__file__).parents[2]


def load_sae(source: SaeSource, *, device: str, cache_dir: Path) -> SparseAutoencoder:
    """The SAE that ``source`` names, in float32.

    Args:
        source: sae-lens release, sae-lens folder, or Gemma Scope params.npz.
        device: auto, cpu, cuda, cuda:1 or mps; the model's.
        cache_dir: remembered hashes; hub files stay in the hub's own cache.

    Raises:
        ModelMissing: nothing there.
        DownloadFailed: the hub cannot deliver.
        Invalid: something there that cannot be read.
        HookUnknown: it reads at a hook point that Sparsight cannot.
        OutOfMemory: it does not fit.
    """
    place = choose_device(device)
    record: dict[str, float] = {}
    with memory_errors("loading an SAE"):
        match source.kind:
            case SaeKind.HUB:
                config, tensors = read_release(source)
                revision = tensors_sha256(tensors)
            case SaeKind.FOLDER:
                folder = _find(source.location)
                config, tensors = read_folder(folder, source.hook_name)
                revision = content_sha256([folder / WEIGHTS_FILE], cache_dir=cache_dir)
                record = read_record(folder)
            case SaeKind.NPZ:
                path = params_path(_find(source.location))
                config, tensors = read_params(path, source.hook_name)
                revision = content_sha256([path], cache_dir=cache_dir)
            case _:
                assert_never(source.kind)
        sae = build_sae(config, tensors, revision=revision, device=place)
    return replace(sae, record=record)


def check_fits(sae: SparseAutoencoder, loaded: LoadedModel) -> None:
    """Refuse an SAE that was not made for a model of this shape.

    Raises:
        SaeMismatch: it reads a layer that the model lacks, or another width.
        HookUnknown: the model's family has no such hook point.
    """
    info, model = sae.info, loaded.info
    if info.layer >= model.n_layers:
        raise SaeMismatch(
            f"The SAE reads layer {info.layer} ({info.hook_name}); the model has "
            f"{model.n_layers} layers, 0 to {model.n_layers - 1}.",
            hint="Choose the model that the SAE was trained on, or another SAE.",
        )
    find_tap(loaded.model, info.hook_name)
    if info.d_in != model.d_model:
        raise SaeMismatch(
            f"The SAE reads vectors of width {info.d_in}; the model's have width {model.d_model}.",
            hint="Choose the model that the SAE was trained on, or another SAE.",
        )


def tensors_sha256(tensors: Mapping[str, Float[Tensor, "..."]]) -> str:
    """Hex sha256 over named tensors: name, number format, shape and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _find(location: str) -> Path:
    """A path as given, or else below the folder in which Sparsight lies."""
    path = Path(location).expanduser()
    if path.exists():
        return path
    ours = _PROJECT / path
    if ours.exists():
        return ours
    raise ModelMissing(f"There is no file or folder {path}.", hint="Check the path of the SAE.")
