"""Texts of a harvest's contexts, worked out once for all the features that share them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float32, Int32, UInt16

from core.autointerp.sampling import Specimen
from core.autointerp.text import token_text, whole_characters
from core.domain.activation import ActivationRecord, Band
from core.domain.views import Vocabulary

MOST_KEPT = 20_000
_SPECIAL = "\x00special"  # told by identity: no token of the vocabulary is this very object


@dataclass(frozen=True, slots=True)
class ContextText:
    """A context as text.

    Attributes:
        silent: its tokens, whole characters without special tokens, each with activation 0; one
            object for all the features that are silent there.
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
        self._wholes = _Wholes(words)
        self._known: dict[int, ContextText] = {}
        self._silent: dict[tuple[int, Band], Specimen] = {}

    def known(self, numbers: Sequence[int]) -> dict[int, ContextText]:
        """Those of these contexts that were worked out before, by number."""
        found = ((number, self._known.get(number)) for number in numbers)
        return {number: text for number, text in found if text is not None}

    def learn(self, contexts: Mapping[int, Int32[np.ndarray, " pos"]]) -> dict[int, ContextText]:
        """The texts of contexts, from their token ids, by number; they are remembered."""
        if len(self._known) + len(contexts) > MOST_KEPT:
            self._known.clear()
            self._silent.clear()
        learned = {number: self._text(ids.tolist()) for number, ids in contexts.items()}
        self._known.update(learned)
        return learned

    def silent(self, number: int, band: Band, text: ContextText) -> Specimen:
        """The context for a feature that is silent there; the same for all of them."""
        found = self._silent.get((number, band))
        if found is None or found.record is not text.silent:
            found = Specimen(context_index=number, band=band, record=text.silent)
            self._silent[number, band] = found
        return found

    def token(self, token_id: int) -> str:
        """One token as text; bytes that are no character stay visible."""
        return token_text(self._bytes(token_id))

    def _text(self, ids: list[int]) -> ContextText:
        texts = list(map(self._wholes.__getitem__, ids))
        kept = [place for place, text in enumerate(texts) if text is not _SPECIAL]
        plain = [texts[place] for place in kept]
        if None in plain:
            return self._joined_text(ids, kept)
        places = [-1] * len(ids)
        for token, place in enumerate(kept):
            places[place] = token
        return _context_text(plain, places, joined=())

    def _joined_text(self, ids: list[int], kept: list[int]) -> ContextText:
        """A context in which a character is spread over several positions."""
        pieces = [self._bytes(ids[place]) for place in kept]
        groups = whole_characters(pieces)
        places = [-1] * len(ids)
        for token, group in enumerate(groups):
            for i in group:
                places[kept[i]] = token
        texts = [token_text(reduce(bytes.__add__, map(pieces.__getitem__, g))) for g in groups]
        joined = (token for token, group in enumerate(groups) if len(group) > 1)
        return _context_text(texts, places, joined=joined)

    def _bytes(self, token_id: int) -> bytes:
        return _bytes_of(self._words, token_id)


class _Wholes(dict[int, str | None]):
    """Tokens' texts by id, decoded when they first occur.

    None where the bytes are no whole characters; _SPECIAL itself for special tokens.
    """

    def __init__(self, words: Vocabulary) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, token_id: int) -> str | None:
        text: str | None = None
        if token_id in self._words.special_ids:
            text = _SPECIAL
        else:
            with suppress(UnicodeDecodeError):
                text = _bytes_of(self._words, token_id).decode()
        self[token_id] = text
        return text


def _context_text(
    tokens: Iterable[str | None], places: Iterable[int], *, joined: Iterable[int]
) -> ContextText:
    texts = tuple(text for text in tokens if text is not None)
    return ContextText(
        silent=ActivationRecord(tokens=texts, activations=(0.0,) * len(texts)),
        places=tuple(places),
        joined=frozenset(joined),
    )


def _bytes_of(words: Vocabulary, token_id: int) -> bytes:
    return words.tokens[token_id] if 0 <= token_id < len(words.tokens) else b""
