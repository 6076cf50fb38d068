"""Texts of a harvest's contexts, worked out once for all the features that share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float32, Int32, UInt16

from core.autointerp.text import token_text, whole_characters
from core.domain.activation import ActivationRecord
from core.domain.views import Vocabulary

MOST_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class ContextText:
    """A context as text.

    Attributes:
        silent: its tokens, whole characters without special tokens, each with activation 0.
        places: for each position of the context the token that it is part of; -1 for a special
            token.
        joined: tokens that stand for several positions.
    """

    silent: ActivationRecord
    places: tuple[int, ...]
    joined: frozenset[int]

    def record(
        self, positions: UInt16[np.ndarray, " nnz"], values: Float32[np.ndarray, " nnz"]
    ) -> ActivationRecord:
        """The tokens with a feature's activations, of which all others are 0.

        A token of several positions has the largest of theirs, as
        core.autointerp.records.make_record has it from exact bytes.
        """
        if len(positions) == 0:
            return self.silent
        activations = [0.0] * len(self.silent.tokens)
        for position, value in zip(positions.tolist(), values.tolist(), strict=True):
            place = self.places[position]
            if place >= 0:
                before = activations[place]
                activations[place] = max(before, value) if place in self.joined else value
        return ActivationRecord(tokens=self.silent.tokens, activations=tuple(activations))


class ContextTexts:
    """The contexts of one harvest as text; random contexts are the same for every feature.

    Use one for each harvest. It may be shared by threads: what two work out at once is equal.
    """

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._wholes: dict[int, str | None] = {}
        self._known: dict[int, ContextText] = {}

    def known(self, numbers: Sequence[int]) -> dict[int, ContextText]:
        """Those of these contexts that were worked out before, by number."""
        found = ((number, self._known.get(number)) for number in numbers)
        return {number: text for number, text in found if text is not None}

    def learn(self, contexts: Mapping[int, Int32[np.ndarray, " pos"]]) -> dict[int, ContextText]:
        """The texts of contexts, from their token ids, by number; they are remembered."""
        if len(self._known) + len(contexts) > MOST_KEPT:
            self._known.clear()
        learned = {number: self._text(ids.tolist()) for number, ids in contexts.items()}
        self._known.update(learned)
        return learned

    def token(self, token_id: int) -> str:
        """One token as text; bytes that are no character stay visible."""
        return token_text(self._bytes(token_id))

    def _text(self, ids: list[int]) -> ContextText:
        kept = [place for place, token in enumerate(ids) if token not in self._words.special_ids]
        texts = [self._whole(ids[place]) for place in kept]
        plain = [text for text in texts if text is not None]
        groups: Sequence[tuple[int, ...]] = [(i,) for i in range(len(kept))]
        if len(plain) < len(texts):
            pieces = [self._bytes(ids[place]) for place in kept]
            groups = whole_characters(pieces)
            plain = [token_text(reduce(bytes.__add__, map(pieces.__getitem__, g))) for g in groups]
        places = [-1] * len(ids)
        for token, group in enumerate(groups):
            for i in group:
                places[kept[i]] = token
        return ContextText(
            silent=ActivationRecord(tokens=tuple(plain), activations=(0.0,) * len(plain)),
            places=tuple(places),
            joined=frozenset(token for token, group in enumerate(groups) if len(group) > 1),
        )

    def _whole(self, token_id: int) -> str | None:
        """A token's text; None where its bytes are no whole characters."""
        if token_id not in self._wholes:
            try:
                self._wholes[token_id] = self._bytes(token_id).decode()
            except UnicodeDecodeError:
                self._wholes[token_id] = None
        return self._wholes[token_id]

    def _bytes(self, token_id: int) -> bytes:
        tokens = self._words.tokens
        return tokens[token_id] if 0 <= token_id < len(tokens) else b""
