"""One tile of contexts through the model and every SAE."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from worker.harvest.corpus_store import Tile
from worker.harvest.nonzeros import Nonzeros, find_nonzeros
from worker.harvest.threads import one_thread
from worker.lm.capture import capture
from worker.lm.load import LoadedModel
from worker.lm.outliers import is_outlier
from worker.memory import memory_errors
from worker.sae.model import SparseAutoencoder

_CELLS = 1 << 26  # dense activations held at once


class Encoded(NamedTuple):
    """A stretch of contexts through one SAE.

    Attributes:
        parts: active entries by ascending token.
        outliers: tokens that would count if their residual were not so long, ascending.
    """

    parts: list[Nonzeros]
    outliers: Int64[Tensor, " outlier"]


@torch.inference_mode()
def encode_tile(
    loaded: LoadedModel,
    saes: Sequence[SparseAutoencoder],
    tile: Tile,
    *,
    norm_limits: Mapping[str, float],
    first_token: int,
) -> list[Encoded]:
    """Active entries of a tile for each SAE.

    Args:
        loaded: the model; it runs once, to the deepest hook point.
        saes: on the model's device.
        tile: contexts of one forward pass; always of the same shape, since sums of floating-point
            numbers depend on it.
        norm_limits: largest norm of a residual that counts, by hook point; none lets all count.
        first_token: number of the tile's first token.
    """
    hook_names = list(dict.fromkeys(sae.info.hook_name for sae in saes))
    ids = torch.from_numpy(tile.ids).long()
    mask = torch.from_numpy(tile.real).long()
    streams = capture(loaded, ids, mask, hook_names)
    scored = torch.from_numpy(tile.scored).view(-1).to(loaded.device)
    with memory_errors("encoding activations"):
        return [
            _encode(
                sae,
                streams[sae.info.hook_name],
                scored,
                max_norm=norm_limits.get(sae.info.hook_name),
                first_token=first_token,
            )
            for sae in saes
        ]


def _encode(
    sae: SparseAutoencoder,
    stream: Float[Tensor, "batch pos d_in"],
    scored: Bool[Tensor, " token"],
    *,
    max_norm: float | None,
    first_token: int,
) -> Encoded:
    tokens = stream.reshape(-1, stream.shape[-1])
    outlier = scored & is_outlier(tokens, max_norm)
    counts = scored & ~outlier
    step = max(1, _CELLS // sae.info.d_sae)
    parts = []
    for first in range(0, len(tokens), step):
        acts = sae.encode(tokens[first : first + step].float())
        with one_thread():
            parts.append(
                find_nonzeros(acts, counts[first : first + step], first_token=first_token + first)
            )
    return Encoded(parts, torch.nonzero(outlier).view(-1) + first_token)
