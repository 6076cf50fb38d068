"""Texts of a harvest's contexts, worked out once for all the features that share them."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Int

from core.autointerp.text import token_text, whole_characters
from core.domain.activation import ActivationRecord, ContextActivations
from core.domain.views import Vocabulary

MOST_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class _Shape:
    """A context as text.

    Attributes:
        tokens: whole characters, special tokens left out.
        kept: positions of the context that count.
        starts: where each token begins among them.
    """

    tokens: tuple[str, ...]
    kept: Int[np.ndarray, " kept"]
    starts: Int[np.ndarray, " token"]


class ContextTexts:
    """The contexts of one harvest as text; random contexts are the same for every feature.

    Use one for each harvest. It may be shared by threads: what two work out at once is equal.
    """

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._texts: dict[int, str | None] = {}
        self._shapes: dict[int, _Shape] = {}

    def record(self, context: ContextActivations) -> ActivationRecord:
        """A context's tokens with its activations; parts of a character become one token.

        As core.autointerp.records.make_record does from exact bytes.
        """
        shape = self._shapes.get(context.context_index)
        if shape is None:
            if len(self._shapes) >= MOST_KEPT:
                self._shapes.clear()
            shape = self._shape(context.token_ids.tolist())
            self._shapes[context.context_index] = shape
        kept = context.activations[shape.kept].astype(np.float64)
        values = np.maximum.reduceat(kept, shape.starts) if len(kept) else kept
        return ActivationRecord(tokens=shape.tokens, activations=tuple(values.tolist()))

    def token(self, token_id: int) -> str:
        """One token as text; bytes that are no character stay visible."""
        return token_text(self._bytes(token_id))

    def _shape(self, ids: list[int]) -> _Shape:
        kept = [place for place, token in enumerate(ids) if token not in self._words.special_ids]
        texts = [self._whole(ids[place]) for place in kept]
        plain = [text for text in texts if text is not None]
        if len(plain) == len(texts):
            return _Shape(tuple(plain), np.array(kept, np.intp), np.arange(len(kept)))
        pieces = [self._bytes(ids[place]) for place in kept]
        groups = whole_characters(pieces)
        joined = (reduce(bytes.__add__, (pieces[i] for i in group)) for group in groups)
        return _Shape(
            tuple(token_text(text) for text in joined),
            np.array(kept, np.intp),
            np.array([group[0] for group in groups], np.intp),
        )

    def _whole(self, token_id: int) -> str | None:
        """A token's text; None where its bytes are no whole characters."""
        if token_id not in self._texts:
            try:
                self._texts[token_id] = self._bytes(token_id).decode()
            except UnicodeDecodeError:
                self._texts[token_id] = None
        return self._texts[token_id]

    def _bytes(self, token_id: int) -> bytes:
        tokens = self._words.tokens
        return tokens[token_id] if 0 <= token_id < len(tokens) else b""
