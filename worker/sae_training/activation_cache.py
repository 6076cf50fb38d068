"""Residual-stream activations of a corpus on disk: captured once, read in any order.

One file a hook point holds bfloat16 rows, one row a scored token, in corpus order. The capture
can be stopped at any moment and goes on with the context after the last one that was written.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import BFloat16, Int, UInt16
from torch import Tensor

from worker.lm.tokens import Contexts

logger = logging.getLogger(__name__)

CaptureFn = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""input_ids, attention_mask -> residual stream of each hook point, [batch pos d_in]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationCache:
    """The rows of one hook point.

    Attributes:
        rows: bit patterns of bfloat16, mapped from disk; numpy has no such dtype.
    """

    hook_name: str
    rows: UInt16[np.ndarray, "token d_in"]

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def take(self, indices: Int[np.ndarray, " batch"]) -> BFloat16[Tensor, "batch d_in"]:
        """The rows of these tokens."""
        return torch.from_numpy(self.rows[indices]).view(torch.bfloat16)

    def slice(self, start: int, stop: int) -> BFloat16[Tensor, "batch d_in"]:
        """The rows from ``start`` up to ``stop``."""
        return torch.from_numpy(self.rows[start:stop].copy()).view(torch.bfloat16)


def capture_to_disk(
    contexts: Contexts,
    capture: CaptureFn,
    *,
    hook_names: Sequence[str],
    folder: Path,
    batch_contexts: int = 32,
) -> dict[str, ActivationCache]:
    """Activations of every scored token at each hook point, captured or continued in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / "progress.json"
    state = (
        json.loads(state_path.read_text()) if state_path.exists() else {"contexts": 0, "rows": 0}
    )
    for start in range(state["contexts"], len(contexts), batch_contexts):
        batch = contexts[start : start + batch_contexts]
        residuals = capture(batch.input_ids, batch.attention_mask)
        for hook_name in hook_names:
            _write(folder, hook_name, residuals[hook_name][batch.scored], at_row=state["rows"])
        state = {
            "contexts": min(start + batch_contexts, len(contexts)),
            "rows": state["rows"] + int(batch.scored.sum()),
        }
        _replace_text(state_path, json.dumps(state))
        if start // batch_contexts % 50 == 0:
            logger.info("captured %s of %s contexts", state["contexts"], len(contexts))
    return {name: open_cache(folder, name) for name in hook_names}


def open_cache(folder: Path, hook_name: str) -> ActivationCache:
    """The rows captured so far at a hook point."""
    state = json.loads((folder / "progress.json").read_text())
    d_in = json.loads(_path(folder, hook_name, ".json").read_text())["d_in"]
    rows = np.memmap(
        _path(folder, hook_name, ".bf16"), dtype=np.uint16, mode="r", shape=(state["rows"], d_in)
    )
    return ActivationCache(hook_name=hook_name, rows=rows)


def _write(
    folder: Path, hook_name: str, rows: BFloat16[Tensor, "token d_in"], *, at_row: int
) -> None:
    d_in = rows.shape[1]
    _path(folder, hook_name, ".json").write_text(json.dumps({"d_in": d_in}))
    path = _path(folder, hook_name, ".bf16")
    path.touch()
    with path.open("r+b") as stream:
        stream.seek(at_row * d_in * 2)
        stream.write(rows.contiguous().view(torch.uint16).numpy().tobytes())


def _path(folder: Path, hook_name: str, suffix: str) -> Path:
    return folder / f"{hook_name}{suffix}"


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)
