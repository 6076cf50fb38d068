"""Everything one SAE's harvest remembers while the corpus streams by."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from core.errors import Invalid
from worker.harvest.candidates import Candidates, Limits, rows_of
from worker.harvest.counters import Counters, count, merge_counters, no_counts
from worker.harvest.fixed_point import LARGEST
from worker.harvest.forward import Encoded
from worker.harvest.nonzeros import Nonzeros, pair_up, sort_by_feature
from worker.harvest.sampled_contexts import (
    draws_of,
    join_activations,
    no_activations,
    pick_activations,
)
from worker.harvest.state import SaeState
from worker.harvest.threads import one_thread


class Draws(NamedTuple):
    """Contexts drawn uniformly from the corpus, the smallest key first.

    Attributes:
        random: those stored for every feature.
        coactivation: those on which co-activation is counted.
    """

    random: Int64[np.ndarray, " random"]
    coactivation: Int64[np.ndarray, " sampled"]


class Accumulator:
    """Takes in batches of encoded contexts, or whole states, and gives the state of them all."""

    def __init__(
        self,
        *,
        d_sae: int,
        context_size: int,
        limits: Limits,
        draws: Draws,
        device: torch.device,
    ) -> None:
        self._d_sae = d_sae
        self._context_size = context_size
        self._draws = draws
        self._device = device
        self._counters = no_counts(d_sae, device)
        self._candidates = Candidates(d_sae=d_sae, limits=limits, device=device)
        self._random = [no_activations()]
        self._firing = [no_activations()]
        self._outliers = [np.empty(0, np.int64)]

    def add_batch(self, encoded: Encoded, *, first_context: int, n_contexts: int) -> None:
        """Take in contexts ``first_context … first_context + n_contexts - 1``.

        Args:
            encoded: what one SAE made of them; tokens count from the first context.
            first_context: must not be below that of an earlier batch.
            n_contexts: contexts of the batch.

        Raises:
            Invalid: an activation is not a finite number below 2**30.
        """
        with one_thread():
            self._add(sort_by_feature(encoded.parts), first_context, n_contexts)
        shift = first_context * self._context_size
        self._outliers.append(encoded.outliers.cpu().numpy() + shift)

    def _add(self, nonzeros: Nonzeros, first_context: int, n_contexts: int) -> None:
        if not bool((nonzeros.value < LARGEST).all()):
            raise Invalid(
                f"Activations near context {first_context} are not finite.",
                hint="Run the model in float32, and check the SAE's weights.",
            )
        size = self._context_size
        pairs = pair_up(nonzeros, size)
        self._counters = merge_counters(self._counters, count(nonzeros, pairs, self._d_sae))
        wanted = self._candidates.wanted(pairs, first_context=first_context)
        self._candidates.add(
            rows_of(nonzeros, pairs, wanted, first_context=first_context, context_size=size)
        )
        for kept, drawn, values in (
            (self._random, self._draws.random, True),
            (self._firing, self._draws.coactivation, False),
        ):
            draw = draws_of(drawn, first_context=first_context, n_contexts=n_contexts)
            kept.append(pick_activations(nonzeros, draw, context_size=size, values=values))

    def add_state(self, state: SaeState) -> None:
        """Take in what another accumulator found on other contexts."""
        theirs = Counters(*(part.to(self._device) for part in state.counters))
        self._counters = merge_counters(self._counters, theirs)
        self._candidates.add(state.rows)
        self._random.append(state.random)
        self._firing.append(state.firing)
        self._outliers.append(state.outliers)

    def state(self) -> SaeState:
        """The state after all that was taken in."""
        self._random = [join_activations(self._random)]
        self._firing = [join_activations(self._firing)]
        self._outliers = [np.sort(np.concatenate(self._outliers))]
        return SaeState(
            counters=Counters(*(part.cpu() for part in self._counters)),
            rows=self._candidates.rows(),
            random=self._random[0],
            firing=self._firing[0],
            outliers=self._outliers[0],
        )
