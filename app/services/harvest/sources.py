"""Local files that a harvest names: whether they are there, and what their headers say.

Nothing here loads weights: configurations are JSON, and an npz file tells its shapes in a few
bytes.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from numpy.lib import format as npy

_ROOT = Path(str(files("core"))).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeHeader:
    """What an SAE's files say without its weights; None where they do not."""

    d_in: int | None
    d_sae: int | None
    hook_name: str | None
    architecture: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHeader:
    """What a model folder's configuration says; None where it does not."""

    d_model: int | None
    n_layers: int | None
    vocab_size: int | None
    weight_bytes: int | None


def local_path(location: str) -> Path:
    """A path as the worker reads it: as given, or else below the folder of the product."""
    try:
        path = Path(location).expanduser()
    except RuntimeError:  # no such user
        path = Path(location)
    return path if path.is_absolute() or is_there(path) else _ROOT / path


def is_there(path: Path, *, kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether a file or folder is there and may be looked at; no path is ever an error."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False


def read_model_header(folder: Path) -> ModelHeader | None:
    """The configuration of a transformers folder; None without a readable config.json."""
    config = _read_json(folder / "config.json")
    if config is None:
        return None
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else config
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return ModelHeader(
        d_model=_whole(inner, "hidden_size", "n_embd", "d_model"),
        n_layers=_whole(inner, "num_hidden_layers", "n_layer", "num_layers"),
        vocab_size=_whole(inner, "vocab_size"),
        weight_bytes=sum(path.stat().st_size for path in weights) or None,
    )


def read_sae_folder(folder: Path) -> SaeHeader | None:
    """The cfg.json of a sae-lens folder, of any of its versions; None if it cannot be read."""
    config = _read_json(folder / "cfg.json")
    if config is None:
        return None
    metadata = config.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return SaeHeader(
        d_in=_whole(config, "d_in"),
        d_sae=_whole(config, "d_sae"),
        hook_name=_text(named, "hook_name") or _text(config, "hook_name", "hook_point"),
        architecture=_text(config, "architecture"),
    )


def read_sae_npz(path: Path) -> SaeHeader | None:
    """The shapes of a Gemma Scope params.npz (the file or its folder); None if it is not one."""
    file = path / "params.npz" if is_there(path, kind=Path.is_dir) else path
    try:
        with zipfile.ZipFile(file) as archive, archive.open("W_enc.npy") as member:
            shape = _npy_shape(member)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    if len(shape) != 2:
        return None
    return SaeHeader(d_in=shape[0], d_sae=shape[1], hook_name=None, architecture="jumprelu")


def _npy_shape(member: IO[bytes]) -> tuple[int, ...]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape: tuple[int, ...] = read(member)[0]
    return shape


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _whole(config: dict[str, object], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)


def _text(config: dict[str, object], *names: str) -> str | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, str) and value), None)
