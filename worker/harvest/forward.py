"""One tile of contexts through the model and every SAE."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worker.harvest.corpus_store import Tile
from worker.harvest.nonzeros import Nonzeros, find_nonzeros
from worker.harvest.threads import one_thread
from worker.lm.capture import capture
from worker.lm.load import LoadedModel
from worker.memory import memory_errors
from worker.sae.model import SparseAutoencoder

_CELLS = 1 << 26  # dense activations held at once


@torch.inference_mode()
def encode_tile(
    loaded: LoadedModel, saes: Sequence[SparseAutoencoder], tile: Tile, *, first_token: int
) -> list[list[Nonzeros]]:
    """Active entries of a tile for each SAE, in parts by ascending token.

    Args:
        loaded: the model; it runs once, to the deepest hook point.
        saes: on the model's device.
        tile: contexts of one forward pass; always of the same shape, since sums of floating-point
            numbers depend on it.
        first_token: number of the tile's first token.
    """
    hook_names = list(dict.fromkeys(sae.info.hook_name for sae in saes))
    ids = torch.from_numpy(tile.ids).long()
    mask = torch.from_numpy(tile.real).long()
    streams = capture(loaded, ids, mask, hook_names)
    scored = torch.from_numpy(tile.scored).view(-1).to(loaded.device)
    with memory_errors("encoding activations"):
        return [
            list(_encode(sae, streams[sae.info.hook_name], scored, first_token)) for sae in saes
        ]


def _encode(
    sae: SparseAutoencoder,
    stream: Float[Tensor, "batch pos d_in"],
    scored: Bool[Tensor, " token"],
    first_token: int,
) -> Iterator[Nonzeros]:
    tokens = stream.reshape(-1, stream.shape[-1])
    step = max(1, _CELLS // sae.info.d_sae)
    for first in range(0, len(tokens), step):
        acts = sae.encode(tokens[first : first + step].float())
        with one_thread():
            found = find_nonzeros(
                acts, scored[first : first + step], first_token=first_token + first
            )
        yield found
