"""From which length on a residual is an outlier of a corpus, by the median of its tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worker.harvest.corpus_store import CorpusStore, Tile
from worker.lm.capture import capture
from worker.lm.load import LoadedModel
from worker.lm.outliers import norms_of

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


def _norms(
    loaded: LoadedModel, tile: Tile, hook_names: Sequence[str]
) -> dict[str, Float[Tensor, " token"]]:
    mask = torch.from_numpy(tile.real).long()
    streams = capture(loaded, torch.from_numpy(tile.ids).long(), mask, hook_names)
    scored = torch.from_numpy(tile.scored).to(loaded.device)
    return {name: norms_of(stream[scored]).cpu() for name, stream in streams.items()}
