"""SAEs as Gemma Scope publishes them: params.npz with JumpReLU weights, arXiv 2408.05147.

Their inputs are neither normalised nor shifted: both were folded into the weights.
"""

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import Invalid, ModelMissing
from worker.sae.build import SaeConfig

PARAMS_FILE = "params.npz"
_KEYS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")


def params_path(location: Path) -> Path:
    """The .npz file that a file or folder means.

    Raises:
        ModelMissing: there is none.
    """
    path = location / PARAMS_FILE if location.is_dir() else location
    if not path.is_file():
        raise ModelMissing(
            f"There is no file {path}.", hint=f"Name a {PARAMS_FILE} file or the folder it is in."
        )
    return path


def read_params(path: Path, hook_name: str | None) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Configuration and tensors of a params.npz.

    Args:
        path: the file; ``layer_12/`` in it means blocks.12.hook_resid_post.
        hook_name: the hook point, where the path does not name a layer.

    Raises:
        Invalid: not such a file, or the hook point is not known.
    """
    config = SaeConfig(
        place=str(path),
        architecture="jumprelu",
        hook_name=hook_name or _hook_name(path),
        apply_b_dec_to_input=False,
    )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {_name(key): torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        raise Invalid(
            f"{path} is not an .npz file of numbers: {error}.", hint="Download it again."
        ) from error
    missing = [key for key in _KEYS if key not in tensors]
    if missing:
        raise Invalid(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(tensors)) or 'nothing'}.",
            hint=f"A Gemma Scope file holds {', '.join(_KEYS)}.",
        )
    return config, tensors


def _name(key: str) -> str:
    return f"W_{key[2:]}" if key.startswith("w_") else key


def _hook_name(path: Path) -> str:
    for part in reversed(path.resolve().parts):
        match = re.fullmatch(r"layer_(\d+)", part)
        if match is not None:
            return f"blocks.{int(match[1])}.hook_resid_post"
    raise Invalid(
        f"{path} does not say at which hook point it reads.",
        hint="Give hook_name, e.g. blocks.12.hook_resid_post, or keep it in layer_12/.",
    )
