"""Which features write in the same direction: cosine of decoder rows."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.domain.activation import Neighbours
from worker.harvest.topk import largest_columns

_CELLS = 1 << 24  # cosines held at once


def decoder_cosine(W_dec: Float[Tensor, "d_sae d_in"], k: int) -> Neighbours:
    """The ``k`` other features of largest decoder cosine, exact; equals by the smaller index.

    A row of zeros has cosine 0 with all others.
    """
    rows = W_dec.float()
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    d_sae = len(unit)
    block = max(1, _CELLS // d_sae)
    columns, values = [], []
    for first in range(0, d_sae, block):
        cosine = unit[first : first + block] @ unit.T
        own = torch.arange(len(cosine), device=cosine.device)
        cosine[own, own + first] = -torch.inf
        best = largest_columns(cosine, k)
        columns.append(best[0].int().cpu().numpy())
        values.append(best[1].cpu().numpy())
    return Neighbours(index=np.concatenate(columns), value=np.concatenate(values))
