"""SAEs of the Hugging Face hub by sae-lens's names: a release and an id inside it."""

import difflib
from typing import Any

from torch import Tensor

from core.domain.sae import SaeSource
from core.errors import Invalid
from worker.hub import cache_if_unreachable, hub_errors
from worker.sae.build import SaeConfig
from worker.sae.sae_lens_folder import read_config, without_scaling


def read_release(source: SaeSource) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Configuration and tensors of a release's SAE, by sae-lens's own loaders.

    Hub repositories that are no release of sae-lens are read as sae-lens folders inside them.

    Raises:
        Invalid: no such release or id; the message names near ones.
        ModelMissing: the hub has no such repository or file, or it is gated.
        DownloadFailed: the hub cannot deliver.
    """
    # sae-lens takes seconds to import; folders and .npz files do without it.
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.loading import pretrained_saes_directory as directory

    release, release_id = source.location, source.release_id
    if release_id is None:
        raise Invalid(
            f"Release {release} needs the id of one of its SAEs.",
            hint="Give release_id, e.g. layer_12/width_16k/canonical.",
        )
    _check_known(directory.get_pretrained_saes_directory(), release, release_id)
    load = loaders.NAMED_PRETRAINED_SAE_LOADERS[loaders.get_conversion_loader_name(release)]
    repository, folder = directory.get_repo_id_and_folder_name(release, release_id)
    overrides = {**directory.get_config_overrides(release, release_id)}
    place = f"{release} {release_id}"
    with hub_errors(repository), cache_if_unreachable(repository):
        written, tensors, _sparsity = load(
            repo_id=repository,
            folder_name=folder,
            device="cpu",
            force_download=False,
            cfg_overrides={**overrides, "device": "cpu", "dtype": "float32"},
        )
    config = read_config(
        written,
        place=place,
        hook_name=source.hook_name,
        input_scale=directory.get_norm_scaling_factor(release, release_id),
    )
    return config, without_scaling(tensors, place=place)


def _check_known(releases: dict[str, Any], release: str, release_id: str) -> None:
    if release not in releases:
        if "/" in release:
            return
        raise Invalid(
            f"sae-lens knows no release {release!r}.",
            hint=_nearest(release, list(releases)) or "A hub repository is written owner/name.",
        )
    ids = list(releases[release].saes_map)
    if release_id not in ids:
        raise Invalid(
            f"Release {release} has no SAE {release_id!r}.",
            hint=_nearest(release_id, ids) or f"It has {', '.join(ids[:3])} …",
        )


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"Near it are: {', '.join(near)}." if near else ""
