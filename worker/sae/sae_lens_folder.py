"""SAEs in the folders that sae-lens writes: cfg.json and sae_weights.safetensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.errors import Invalid, ModelMissing
from worker.sae.build import SaeConfig

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
RECORD_FILE = "record.json"

_RECORDED = {
    "l0": ("held_out", "l0"),
    "explained_variance": ("held_out", "explained_variance"),
    "dead_share": ("held_out", "dead_share"),
    "ce_recovered": ("cross_entropy_nats", "recovered"),
    "training_tokens": ("training", "tokens_seen"),
}


def read_folder(folder: Path, hook_name: str | None) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Configuration and tensors of a folder; configurations before sae-lens 6 are upgraded.

    Args:
        folder: the folder.
        hook_name: used instead of the one that the configuration names.

    Raises:
        ModelMissing: one of the two files is missing.
        Invalid: one of them cannot be read.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelMissing(
                f"{folder} has no {name}.", hint="Name a folder that sae-lens saved an SAE to."
            )
    written = _read_json(folder / CONFIG_FILE)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise Invalid(
            f"{folder / WEIGHTS_FILE} cannot be read: {error}.", hint="Copy or download it again."
        ) from error
    return read_config(written, place=str(folder), hook_name=hook_name), without_scaling(
        tensors, place=str(folder)
    )


def read_record(folder: Path) -> dict[str, float]:
    """Measured quality that lies beside the weights; empty where there is none."""
    path = folder / RECORD_FILE
    if not path.is_file():
        return {}
    written = _read_json(path)
    found = {}
    for name, (section, key) in _RECORDED.items():
        part = written.get(section)
        value = part.get(key) if isinstance(part, dict) else None
        if isinstance(value, (int, float)):
            found[name] = float(value)
    return found


def read_config(
    written: dict[str, Any],
    *,
    place: str,
    hook_name: str | None,
    input_scale: float | None = None,
) -> SaeConfig:
    """What a sae-lens configuration says about activations.

    Args:
        written: content of cfg.json, of any version.
        place: where it came from, for messages.
        hook_name: used instead of the one in it.
        input_scale: factor of expected_average_only_in, where it is known from elsewhere.

    Raises:
        Invalid: it names no hook point, or reshapes activations.
    """
    config = written if _is_version_6(written) else _upgrade(written, place)
    metadata = config.get("metadata") or {}
    name = hook_name or metadata.get("hook_name")
    if not name:
        raise Invalid(
            f"{place} does not say at which hook point it reads.",
            hint="Give hook_name, e.g. blocks.12.hook_resid_post.",
        )
    reshape = config.get("reshape_activations") or "none"
    if reshape != "none" or metadata.get("hook_head_index") is not None:
        raise Invalid(
            f"{place} reads single attention heads ({reshape}).",
            hint="Sparsight reads SAEs on the residual stream, attention or MLP outputs.",
        )
    return SaeConfig(
        place=place,
        architecture=str(config.get("architecture", "standard")),
        hook_name=str(name),
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        normalize_activations=str(config.get("normalize_activations") or "none"),
        k=None if config.get("k") is None else int(config["k"]),
        rescale_acts_by_decoder_norm=bool(config.get("rescale_acts_by_decoder_norm", False)),
        input_scale=input_scale,
    )


def without_scaling(tensors: dict[str, Tensor], *, place: str) -> dict[str, Tensor]:
    """The tensors without the fine-tuning factors of old versions, which must all be 1.

    Raises:
        Invalid: they are not.
    """
    kept = dict(tensors)
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        factor = kept.pop(name, None)
        if factor is not None and not torch.allclose(factor, torch.ones_like(factor)):
            raise Invalid(
                f"{place} has fine-tuned scaling factors.", hint="Fold them into W_dec first."
            )
    if "log_threshold" in kept:
        kept["threshold"] = kept.pop("log_threshold").float().exp()
    return kept


def _is_version_6(config: dict[str, Any]) -> bool:
    metadata = config.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, dict) else None
    version = config.get("sae_lens_version") or version
    return (
        isinstance(version, str)
        and version.partition(".")[0].isdigit()
        and (int(version.partition(".")[0]) >= 6)
    )


def _upgrade(config: dict[str, Any], place: str) -> dict[str, Any]:
    # sae-lens takes seconds to import and is needed for old formats only.
    from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config

    try:
        upgraded: dict[str, Any] = handle_pre_6_0_config(config)
    except (KeyError, ValueError) as error:
        raise Invalid(
            f"{place}: its configuration cannot be understood: {error}.",
            hint="Sparsight reads the cfg.json of sae-lens.",
        ) from error
    return upgraded


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Invalid(f"{path} is not JSON: {error}.", hint="Copy or download it again.") from error
    if not isinstance(value, dict):
        raise Invalid(f"{path} is not a JSON object.", hint="Copy or download it again.")
    return value
