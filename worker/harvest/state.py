"""What is known of every feature of one SAE after a stretch of the corpus."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from worker.harvest.counters import Counters
from worker.harvest.rows import Rows
from worker.harvest.sampled_contexts import SampledActivations


class SaeState(NamedTuple):
    """What is known of every feature after a stretch of the corpus; two of them can be merged.

    Attributes:
        rows: top contexts and firing sample, ordered by feature, then context.
        random: activations on the random contexts of the stretch.
        firing: active tokens of the co-activation sample's contexts of the stretch.
        outliers: numbers of the tokens that do not count, counted over whole contexts.
    """

    counters: Counters
    rows: Rows
    random: SampledActivations
    firing: SampledActivations
    outliers: Int64[np.ndarray, " outlier"]


def state_arrays(state: SaeState) -> dict[str, np.ndarray]:
    """A state as named arrays."""
    return (
        {f"counters.{name}": part.numpy() for name, part in state.counters._asdict().items()}
        | {f"rows.{name}": part for name, part in state.rows._asdict().items()}
        | {f"random.{name}": part for name, part in state.random._asdict().items()}
        | {f"firing.{name}": part for name, part in state.firing._asdict().items()}
        | {"outliers": state.outliers}
    )


def state_from_arrays(arrays: Mapping[str, np.ndarray]) -> SaeState:
    """The state that these named arrays are."""

    def part(name: str) -> dict[str, np.ndarray]:
        prefix = f"{name}."
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    counters = {name: torch.from_numpy(array) for name, array in part("counters").items()}
    return SaeState(
        counters=Counters(**counters),
        rows=Rows(**part("rows")),
        random=SampledActivations(**part("random")),
        firing=SampledActivations(**part("firing")),
        outliers=arrays["outliers"],
    )
