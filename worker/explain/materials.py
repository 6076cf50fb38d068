"""The features of a run with their contexts, read a block at a time and ahead of whoever asks."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from core.db.session import SessionScope
from core.domain.ids import FeatureId
from core.explaining.context_texts import ContextTexts
from core.explaining.material import Material, StoredFeatures, read_stored
from core.recent import Recent

BLOCK = 16
_READERS = 2
_KEPT_BLOCKS = 4  # items follow the order of the features, so few blocks are in use at once


class Materials:
    """Materials of features that are asked for in about their order.

    A thread reads the rows of a block; what is made of them is made when a feature is asked for, so
    that no thread keeps the event loop from running for long.

    Args:
        scope: the database.
        features: all that may be asked for, of one SAE.
        harvest_id: None takes the newest.
        texts: of that harvest's contexts.
    """

    def __init__(
        self,
        scope: SessionScope,
        features: Sequence[FeatureId],
        *,
        harvest_id: int | None,
        texts: ContextTexts,
    ) -> None:
        self._scope = scope
        self._features = features
        self._harvest_id = harvest_id
        self._texts = texts
        self._places = {feature: place for place, feature in enumerate(features)}
        self._blocks: OrderedDict[int, asyncio.Task[StoredFeatures]] = OrderedDict()
        self._made: Recent[FeatureId, Material] = Recent(BLOCK)
        self._readers = asyncio.Semaphore(_READERS)

    async def get(self, feature: FeatureId) -> Material:
        """What is known of a feature; asked for again soon, as by its next item, it is the same.

        Raises:
            NotFound: no such feature or harvest.
        """
        number = self._places[feature] // BLOCK
        block = self._block(number)
        if (number + 1) * BLOCK < len(self._features):
            self._block(number + 1)
        stored = await asyncio.shield(block)
        return self._made.get(feature, lambda: stored.material(feature))

    async def close(self) -> None:
        """Wait for what is being read."""
        await asyncio.gather(*self._blocks.values(), return_exceptions=True)

    def _block(self, number: int) -> asyncio.Task[StoredFeatures]:
        if number not in self._blocks:
            part = self._features[number * BLOCK : (number + 1) * BLOCK]
            self._blocks[number] = asyncio.create_task(self._read(part))
            while len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    async def _read(self, features: Sequence[FeatureId]) -> StoredFeatures:
        async with self._readers:
            return await asyncio.to_thread(self._read_now, features)

    def _read_now(self, features: Sequence[FeatureId]) -> StoredFeatures:
        with self._scope() as session:
            return read_stored(session, features, harvest_id=self._harvest_id, texts=self._texts)
