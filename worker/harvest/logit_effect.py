"""Tokens a feature promotes or suppresses directly: its decoder row through the unembedding."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.domain.activation import LogitEffect
from worker.harvest.final_norm import FinalNorm
from worker.harvest.topk import largest_columns

_VOCAB_CHUNK = 16_384
_FEATURE_BLOCK = 512


def fold_norm(W_dec: Float[Tensor, "d_sae d_in"], norm: FinalNorm) -> Float[Tensor, "d_sae d_in"]:
    """Decoder rows as the unembedding sees them, up to the norm's scale of the moment."""
    rows = W_dec.float()
    if norm.centres:
        rows = rows - rows.mean(dim=1, keepdim=True)
    return rows * norm.gain.to(rows.device)


def logit_effect(
    W_dec: Float[Tensor, "d_sae d_in"],
    *,
    norm: FinalNorm,
    unembedding: Float[Tensor, "vocab d_in"],
    k: int,
) -> LogitEffect:
    """The ``k`` largest and smallest entries of ``W_dec . diag(gain) . W_U``, a row a feature.

    Equal values come in the order of token ids. The effect is that of one unit of activation
    before the norm's division and any soft cap, along the direct path only.
    """
    rows = fold_norm(W_dec, norm)
    parts = [
        _block_effect(rows[first : first + _FEATURE_BLOCK], unembedding, k)
        for first in range(0, len(rows), _FEATURE_BLOCK)
    ]
    top_ids, top, bottom_ids, bottom = (np.concatenate(part) for part in zip(*parts, strict=True))
    return LogitEffect(top_ids=top_ids, top_values=top, bottom_ids=bottom_ids, bottom_values=bottom)


def _block_effect(
    rows: Float[Tensor, "feature d_in"], unembedding: Float[Tensor, "vocab d_in"], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    top: list[tuple[Tensor, Tensor]] = []
    bottom: list[tuple[Tensor, Tensor]] = []
    for first in range(0, len(unembedding), _VOCAB_CHUNK):
        logits = rows @ unembedding[first : first + _VOCAB_CHUNK].float().T
        top.append(_shifted(*largest_columns(logits, k), first))
        bottom.append(_shifted(*largest_columns(-logits, k), first))
    top_ids, top_values = _best_of(top, k)
    bottom_ids, bottom_values = _best_of(bottom, k)
    return (
        top_ids.int().cpu().numpy(),
        top_values.cpu().numpy(),
        bottom_ids.int().cpu().numpy(),
        -bottom_values.cpu().numpy(),
    )


def _shifted(
    columns: Int64[Tensor, "feature k"], values: Float[Tensor, "feature k"], first: int
) -> tuple[Tensor, Tensor]:
    missing = columns < 0
    return torch.where(missing, -1, columns + first), torch.where(missing, -torch.inf, values)


def _best_of(chunks: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The best of all chunks; they come by ascending ids, so equals stay in that order."""
    ids = torch.cat([chunk[0] for chunk in chunks], dim=1)
    values = torch.cat([chunk[1] for chunk in chunks], dim=1)
    place, best = largest_columns(values, k)
    if not k:
        return place, best
    return torch.where(place < 0, -1, ids.gather(1, place.clamp(min=0))), best
