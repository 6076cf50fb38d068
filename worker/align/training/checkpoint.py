"""Checkpoints of a run: trainable weights, optimiser state and random state at one step.

Written beside their place and moved there, so that one that can be seen is whole. The order of
the data and the learning rate are functions of seed and step and need no state.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from core.errors import Conflict
from worker.align.storage import new_folder

_NAME = re.compile(r"step-(\d{8})")
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands: steps done, and the settings that its trajectory follows from."""

    step: int
    identity: str


def save_checkpoint(
    folder: Path,
    position: Position,
    *,
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep: int,
    is_main: bool,
) -> None:
    """Write a checkpoint and remove the oldest; every process calls it, one writes.

    One of the same step and settings is left as it is, so that a crash cannot find it replaced
    by half.
    """
    if _is_there(folder, position):
        return
    weights = get_model_state_dict(policy, options=_FULL)
    moments = get_optimizer_state_dict(policy, optimizer, options=_FULL)
    if not is_main:
        return
    with new_folder(folder / _name(position.step)) as partial:
        save_file(_distinct(weights), partial / "weights.safetensors")
        torch.save({"optimizer": moments, "rng": _random_state()}, partial / "state.pt")
        text = json.dumps(asdict(position))
        (partial / "position.json").write_text(text, encoding="utf-8")
    for old in _found(folder)[:-keep]:
        shutil.rmtree(old)


def _is_there(folder: Path, position: Position) -> bool:
    path = folder / _name(position.step) / "position.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == asdict(position)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint; None where there is none."""
    found = _found(folder)
    return found[-1] if found else None


def load_checkpoint(
    path: Path, *, policy: nn.Module, optimizer: torch.optim.Optimizer, identity: str
) -> Position:
    """Put a checkpoint's state into policy and optimiser.

    Raises:
        Conflict: it was written under other settings.
    """
    position = Position(**json.loads((path / "position.json").read_text(encoding="utf-8")))
    if position.identity != identity:
        raise Conflict(
            "The run's checkpoint was written under other settings.",
            hint="Start a new run; this one can only go on as it began.",
        )
    state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True)
    partly = StateDictOptions(full_state_dict=True, strict=False, ignore_frozen_params=True)
    weights: dict[str, Any] = dict(load_file(path / "weights.safetensors"))
    set_model_state_dict(policy, weights, options=partly)
    set_optimizer_state_dict(policy, optimizer, state["optimizer"], options=partly)
    _set_random_state(state["rng"])
    return position


def _found(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _distinct(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors without second names of tied ones, which a safetensors file cannot hold."""
    by_storage: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in weights.items():
        by_storage.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    return dict(by_storage.values())


def _random_state() -> dict[str, Any]:
    """State of the generators that adapters' dropout draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
