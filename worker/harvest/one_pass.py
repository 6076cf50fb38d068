"""The one pass: shards of batches of tiles, saved after each shard, resumed after a crash."""

import time
from collections.abc import Iterator, Sequence

import torch

from core.domain.harvest import HarvestSpec
from worker.harvest.accumulator import Accumulator, Draws
from worker.harvest.candidates import Limits
from worker.harvest.checkpoints import Checkpoints
from worker.harvest.forward import Encoded, encode_tile
from worker.harvest.prepare import Prepared
from worker.harvest.sample import sample_contexts
from worker.harvest.state import SaeState
from worker.progress import JobContext

_MOST_NONZEROS = 1 << 23  # a batch ends early when it holds so many


class OnePass:
    """Runs every context of the corpus through the model once.

    Tiles are aligned to the context's number and always have the same shape; batches are some
    tiles, shards some batches. Only tiles decide a result.
    """

    def __init__(self, spec: HarvestSpec, prepared: Prepared, job: JobContext) -> None:
        self._spec = spec
        self._prepared = prepared
        self._job = job
        self._n_contexts = prepared.store.facts.n_contexts
        self._checkpoints = Checkpoints(job)
        draws = draws_for(spec, self._n_contexts)
        self._accumulators = [
            Accumulator(
                d_sae=sae.info.d_sae,
                context_size=spec.context_size,
                limits=limits_of(spec),
                draws=draws,
                device=prepared.loaded.device,
            )
            for sae in prepared.saes
        ]
        self._began = time.monotonic()
        self._tokens_at_start = self._tokens_done = 0

    def run(self) -> list[SaeState]:
        """The state of every SAE after the whole corpus."""
        for _ in self.shards():
            pass
        return self.states()

    def states(self) -> list[SaeState]:
        """The state of every SAE after the shards done so far."""
        return [accumulator.state() for accumulator in self._accumulators]

    def shards(self) -> Iterator[range]:
        """Does one shard after the other, and yields its contexts."""
        tile = self._spec.tile_contexts
        shard_contexts = -(-self._spec.shard_contexts // tile) * tile
        n_shards = -(-self._n_contexts // shard_contexts)
        at = self._resume()
        while at < self._n_contexts:
            shard = at // shard_contexts
            end = min((shard + 1) * shard_contexts, self._n_contexts)
            self._run_shard(at, end)
            if end == self._n_contexts or self._checkpoints.due():
                self._checkpoints.save(shard, next_context=end, states=self.states())
            self._tell_shard(shard + 1, n_shards)
            yield range(at, end)
            at = end

    def _resume(self) -> int:
        found = self._checkpoints.newest(self._job.finished_items())
        if found is None:
            return 0
        for accumulator, state in zip(self._accumulators, found.states, strict=True):
            accumulator.add_state(state)
        self._tokens_done = self._prepared.store.n_tokens_before(found.next_context)
        self._tokens_at_start = self._tokens_done
        self._job.tell("harvest_goes_on", context=found.next_context, n_contexts=self._n_contexts)
        return found.next_context

    def _run_shard(self, first: int, end: int) -> None:
        tile = self._spec.tile_contexts
        batch = _Batch(first, len(self._accumulators))
        for at in range(first, end, tile):
            self._job.check()
            self._run_tile(batch, at)
            full = batch.n_tiles == self._spec.batch_tiles or batch.n_nonzeros > _MOST_NONZEROS
            if full or at + tile >= end:
                self._take_in(batch)
                batch = _Batch(at + tile, len(self._accumulators))

    def _run_tile(self, batch: "_Batch", at: int) -> None:
        store = self._prepared.store
        tile = store.tile(at, self._spec.tile_contexts)
        first_token = (at - batch.first_context) * self._spec.context_size
        found = encode_tile(
            self._prepared.loaded,
            self._prepared.saes,
            tile,
            norm_limits=self._prepared.norm_limits,
            first_token=first_token,
        )
        batch.add(found)
        self._tokens_done += tile.n_tokens
        self._job.progress(
            done=self._tokens_done, total=store.facts.n_tokens, unit="tokens", phase="harvesting"
        )

    def _take_in(self, batch: "_Batch") -> None:
        for accumulator, encoded in zip(self._accumulators, batch.encoded(), strict=True):
            accumulator.add_batch(
                encoded,
                first_context=batch.first_context,
                n_contexts=batch.n_tiles * self._spec.tile_contexts,
            )

    def _tell_shard(self, shard: int, n_shards: int) -> None:
        seconds = time.monotonic() - self._began
        rate = (self._tokens_done - self._tokens_at_start) / max(seconds, 1e-9)
        self._job.tell(
            "harvest_shard",
            shard=shard,
            n_shards=n_shards,
            n_tokens=self._tokens_done,
            rate=round(rate),
        )


class _Batch:
    """What every SAE made of the tiles since the last merge."""

    def __init__(self, first_context: int, n_saes: int) -> None:
        self.first_context = first_context
        self._found: list[list[Encoded]] = [[] for _ in range(n_saes)]
        self.n_tiles = 0
        self.n_nonzeros = 0

    def add(self, found: Sequence[Encoded]) -> None:
        self.n_tiles += 1
        for tiles, fresh in zip(self._found, found, strict=True):
            tiles.append(fresh)
            self.n_nonzeros += sum(len(part.feature) for part in fresh.parts)

    def encoded(self) -> Iterator[Encoded]:
        """All tiles as one stretch, for each SAE."""
        for tiles in self._found:
            parts = [part for tile in tiles for part in tile.parts]
            yield Encoded(parts, torch.cat([tile.outliers for tile in tiles]))


def limits_of(spec: HarvestSpec) -> Limits:
    """How much is kept of every feature."""
    return Limits(n_top=spec.n_top, n_sampled=spec.n_sampled, seed=spec.seed)


def draws_for(spec: HarvestSpec, n_contexts: int) -> Draws:
    """Contexts drawn uniformly; the smaller of the two samples is the beginning of the larger."""
    n = max(spec.n_random, spec.n_coactivation)
    drawn = sample_contexts(spec.seed, n_contexts, n)
    return Draws(drawn[: spec.n_random], drawn[: spec.n_coactivation])
