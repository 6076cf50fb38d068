"""Offline reference: what losses need of the frozen model, computed once and kept on disk.

Two kinds of parts, each in its own folder named by a hash of everything that decides it:

* log-probabilities of both answers of every pair, by model, number format and token ids;
* pooled activations of one SAE on both answers: *all* non-zeros, so that the union of two top-k
  sets can be formed exactly whatever the policy picks (a top-k cache cannot: losses of features
  that only the policy ranks would be wrong); by SAE too.

Token ids and response masks are what tokenizer, template and truncation made of the data, so they
stand for all four. Runs and methods share parts; a part grows by shards, and a run that was
stopped goes on after the last whole one. Each shard holds the digest of its numbers, so one that a
disk or a person has changed is found, wherever in it, and computed again.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn

from core.errors import Invalid
from worker.align.constraint import Constraint
from worker.align.data.pairs import TokenPair, chunks, collate_pairs
from worker.align.losses import PairLogps
from worker.align.policy import Reading, read_batch
from worker.align.pooling import pool_features
from worker.align.storage import canonical, folder_bytes, is_sound, save_tensors

FORMAT = 2  # grows when the meaning of a stored number changes
SHARD_PAIRS = 256
_SAMPLE = 3
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceModel:
    """The frozen model's name: its weights' revision and the format of its forward passes."""

    revision: str
    compute: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePlan:
    """Which parts a run needs, and where each lies."""

    logps: Path
    features: Mapping[str, Path]
    n_pairs: int
    shard_pairs: int

    @property
    def n_shards(self) -> int:
        """Shards of each part; the last one may be shorter."""
        return -(-self.n_pairs // self.shard_pairs)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every part's folder."""
        return (self.logps, *self.features.values())


def plan_reference(
    pairs: Sequence[TokenPair],
    *,
    model: ReferenceModel,
    constraints: Sequence[Constraint],
    root: Path,
    shard_pairs: int = SHARD_PAIRS,
) -> ReferencePlan:
    """Folders of the parts, by the hash of everything that decides their numbers."""
    base = {
        "format": FORMAT,
        "model": model.revision,
        "compute": str(model.compute),
        "data": data_digest(pairs),
        "shard_pairs": shard_pairs,
    }
    return ReferencePlan(
        logps=root / "logps" / _name(base),
        features={
            c.sae_id: root / "features" / _name({**base, "sae": c.revision, "hook": c.hook_name})
            for c in constraints
        },
        n_pairs=len(pairs),
        shard_pairs=shard_pairs,
    )


def data_digest(pairs: Sequence[TokenPair]) -> str:
    """sha256 over token ids and response masks of both sides of every pair, in order."""
    digest = hashlib.sha256()
    for pair in pairs:
        for sequence in (pair.chosen, pair.rejected):
            digest.update(len(sequence.ids).to_bytes(4, "little"))
            digest.update(sequence.ids.astype("<i4").tobytes())
            digest.update(np.packbits(sequence.is_response).tobytes())
    return digest.hexdigest()


def missing_shards(plan: ReferencePlan) -> list[int]:
    """Numbers of the shards that some part lacks."""
    return [
        shard
        for shard in range(plan.n_shards)
        if not all((folder / _file(shard)).is_file() for folder in plan.folders)
    ]


def remove_damaged(plan: ReferencePlan) -> list[Path]:
    """Shards that do not hold what was written; they are removed, so they count as missing."""
    found = [folder / _file(shard) for folder in plan.folders for shard in range(plan.n_shards)]
    damaged = [path for path in found if path.is_file() and not is_sound(path)]
    for path in damaged:
        path.unlink(missing_ok=True)
    return damaged


@torch.no_grad()
def build_reference(
    plan: ReferencePlan,
    pairs: Sequence[TokenPair],
    *,
    policy: nn.Module,
    constraints: Sequence[Constraint],
    batch_pairs: int,
    pad_id: int,
    device: torch.device,
    shards: Sequence[int],
    after_batch: Callable[[int], None],
) -> None:
    """Compute given shards of every part that lacks them.

    ``after_batch`` is told the pairs of each batch and may raise to stop; whole shards are kept.
    """
    for shard in shards:
        start = shard * plan.shard_pairs
        members = pairs[start : start + plan.shard_pairs]
        lacking = [c for c in constraints if not (plan.features[c.sae_id] / _file(shard)).is_file()]
        found = _Shard(lacking)
        for batch in _batches(members, batch_pairs):
            found.add(*_read(policy, batch, lacking, pad_id=pad_id, device=device))
            if len(found) == len(members):
                found.save(plan, shard)
            after_batch(len(batch))


class ReferenceCache:
    """Finished parts, read at random: files are mapped, not loaded."""

    def __init__(self, plan: ReferencePlan, constraints: Sequence[Constraint]) -> None:
        self._plan = plan
        self._widths = {c.sae_id: c.encoder.d_sae for c in constraints}
        self._files: dict[Path, safe_open] = {}

    def logps(self, indices: Sequence[int]) -> PairLogps:
        """Summed response log-probabilities of the pairs, in nats."""
        rows = [self._logps_of(index) for index in indices]
        both = torch.stack(rows) if rows else torch.zeros(0, 2)
        return PairLogps(chosen=both[:, 0], rejected=both[:, 1])

    def means(self, sae_id: str, indices: Sequence[int]) -> Float[Tensor, "batch d_sae"]:
        """Pooled activations of the chosen answers, then of the rejected ones; exact and dense."""
        rows = [(index, side) for side in (0, 1) for index in indices]
        return torch.stack([self._means_of(sae_id, index, side) for index, side in rows])

    @property
    def bytes_per_pair(self) -> dict[str, float]:
        """Bytes on disk for each pair, by part."""
        names = {"logps": self._plan.logps, **self._plan.features}
        return {name: folder_bytes(path) / self._plan.n_pairs for name, path in names.items()}

    def _logps_of(self, index: int) -> Float[Tensor, " 2"]:
        shard, place = divmod(index, self._plan.shard_pairs)
        file = self._open(self._plan.logps / _file(shard))
        row: Tensor = _slice(file, "logps")[place : place + 1][0]
        return row

    def _means_of(self, sae_id: str, index: int, side: int) -> Float[Tensor, " d_sae"]:
        shard, place = divmod(index, self._plan.shard_pairs)
        file = self._open(self._plan.features[sae_id] / _file(shard))
        row = 2 * place + side
        start, stop = _slice(file, "offsets")[row : row + 2].tolist()
        values = _slice(file, "values")[start:stop]
        dense: Tensor = values.new_zeros(self._widths[sae_id])
        dense[_slice(file, "indices")[start:stop].long()] = values
        return dense

    def _open(self, path: Path) -> safe_open:
        if path not in self._files:
            self._files[path] = safe_open(path, framework="pt")
        return self._files[path]


@torch.no_grad()
def verify_reference(
    cache: ReferenceCache,
    pairs: Sequence[TokenPair],
    *,
    policy: nn.Module,
    constraints: Sequence[Constraint],
    compute: torch.dtype,
    pad_id: int,
    device: torch.device,
) -> None:
    """Compute a few pairs again and compare.

    Raises:
        Invalid: the stored numbers are not those of this model.
    """
    step = max(1, len(pairs) // _SAMPLE)
    sample = list(range(0, len(pairs), step))[:_SAMPLE]
    tolerance = _TOLERANCE[compute]
    for index in sample:
        reading, means = _read(policy, [pairs[index]], constraints, pad_id=pad_id, device=device)
        stored = cache.logps([index])
        expected = torch.cat((stored.chosen, stored.rejected))
        _compare(reading.logps.summed.cpu(), expected, tolerance, "log-probabilities")
        for c in constraints:
            _compare(means[c.sae_id].cpu(), cache.means(c.sae_id, [index]), tolerance, c.sae_id)


def _compare(got: Tensor, stored: Tensor, tolerance: float, what: str) -> None:
    gap = float((got - stored).norm() / stored.norm().clamp(min=1e-6))
    if not gap <= tolerance:
        raise Invalid(
            f"The reference cache's {what} differ from the model's by {gap:.1e} of their size.",
            hint="The model, its libraries or the cache have changed. Delete the cache folder "
            "align/reference; the next run computes it again.",
        )


class _Shard:
    """Numbers of one shard while it is computed."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self._logps: list[Float[Tensor, "pair 2"]] = []
        self._rows: dict[str, list[Float[Tensor, " d_sae"]]] = {c.sae_id: [] for c in constraints}

    def __len__(self) -> int:
        """Pairs so far."""
        return sum(map(len, self._logps))

    def add(self, reading: Reading, means: Mapping[str, Float[Tensor, "batch d_sae"]]) -> None:
        summed = reading.logps.summed.cpu()
        self._logps.append(summed.reshape(2, -1).T)
        for sae_id, dense in means.items():
            chosen, rejected = dense.cpu().chunk(2)
            for pair in zip(chosen, rejected, strict=True):
                self._rows[sae_id] += [_sparse(row) for row in pair]

    def save(self, plan: ReferencePlan, shard: int) -> None:
        header = {"format": str(FORMAT)}
        if not (plan.logps / _file(shard)).is_file():
            save_tensors(
                {"logps": torch.cat(self._logps)}, plan.logps / _file(shard), header=header
            )
        for sae_id, rows in self._rows.items():
            tensors = _compressed(rows)
            save_tensors(tensors, plan.features[sae_id] / _file(shard), header=header)


def _slice(file: safe_open, name: str) -> Any:
    return file.get_slice(name)  # type: ignore[no-untyped-call]


def _sparse(row: Float[Tensor, " d_sae"]) -> Tensor:
    return row.to_sparse().coalesce()


def _compressed(rows: Sequence[Tensor]) -> dict[str, Tensor]:
    counts = [row._nnz() for row in rows]
    offsets = torch.tensor([0, *np.cumsum(counts).tolist()], dtype=torch.int64)
    return {
        "offsets": offsets,
        "indices": torch.cat([row.indices()[0] for row in rows]).to(torch.int32),
        "values": torch.cat([row.values() for row in rows]),
    }


def _read(
    policy: nn.Module,
    pairs: Sequence[TokenPair],
    constraints: Sequence[Constraint],
    *,
    pad_id: int,
    device: torch.device,
) -> tuple[Reading, dict[str, Float[Tensor, "batch d_sae"]]]:
    tokens = collate_pairs(pairs, pad_id=pad_id).tokens.to(device)
    reading = read_batch(policy, tokens, hook_names=[c.hook_name for c in constraints])
    mask = tokens.targets.mask
    means = {
        c.sae_id: pool_features(hidden=stream, mask=mask, encoder=c.encoder).means
        for c, stream in zip(constraints, reading.taps, strict=True)
    }
    return reading, means


def _batches(pairs: Sequence[TokenPair], size: int) -> Iterator[list[TokenPair]]:
    for run in chunks(range(len(pairs)), size):
        yield [pairs[i] for i in run]


def _name(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]


def _file(shard: int) -> str:
    return f"{shard:06d}.safetensors"
