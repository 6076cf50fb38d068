"""Tokens with an outlying residual: attention sinks, on which nearly every feature would fire.

In Llama-like models a few tokens near the beginning of a context carry a residual of ten to a
hundred times the usual length. What an SAE makes of it says nothing about the token, yet it would
be the largest activation of most features and fill their top contexts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worker.harvest.corpus_store import CorpusStore, Tile
from worker.lm.capture import capture
from worker.lm.load import LoadedModel

_TILES = 4  # whose tokens give the median


def norm_limits(
    loaded: LoadedModel,
    store: CorpusStore,
    hook_names: Sequence[str],
    *,
    multiple: float,
    tile_contexts: int,
) -> dict[str, float]:
    """The largest norm of a residual that counts, by hook point: multiple · median norm.

    The median is over the scored tokens of four tiles, spread evenly over the corpus.

    Args:
        loaded: the model.
        store: its tokenised corpus.
        hook_names: where residuals are read.
        multiple: of the median.
        tile_contexts: contexts of one forward pass.
    """
    n_tiles = -(-store.facts.n_contexts // tile_contexts)
    places = np.unique(np.linspace(0, n_tiles - 1, min(_TILES, n_tiles)).astype(int)).tolist()
    norms: dict[str, list[Float[Tensor, " token"]]] = {name: [] for name in hook_names}
    for place in places:
        tile = store.tile(place * tile_contexts, tile_contexts)
        for name, found in _norms(loaded, tile, hook_names).items():
            norms[name].append(found)
    joined = {name: torch.cat(parts) for name, parts in norms.items()}
    return {name: multiple * float(all_.median()) for name, all_ in joined.items() if len(all_)}


def is_outlier(
    residual: Float[Tensor, "*token d_in"], limit: float | None
) -> Bool[Tensor, "*token"]:
    """Which residuals are longer than the limit, if there is one; NaN never is, so it is seen."""
    if limit is None:
        return torch.zeros(residual.shape[:-1], dtype=torch.bool, device=residual.device)
    norms: Tensor = torch.linalg.vector_norm(residual.float(), dim=-1)
    return norms.gt(limit)


def _norms(
    loaded: LoadedModel, tile: Tile, hook_names: Sequence[str]
) -> dict[str, Float[Tensor, " token"]]:
    mask = torch.from_numpy(tile.real).long()
    streams = capture(loaded, torch.from_numpy(tile.ids).long(), mask, hook_names)
    scored = torch.from_numpy(tile.scored).to(loaded.device)
    return {
        name: torch.linalg.vector_norm(stream[scored].float(), dim=-1).cpu()
        for name, stream in streams.items()
    }
