"""Other features' explanations, one of which stands in for a feature's own: the shuffled floor."""

import hashlib
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An explanation that may stand in for another feature's."""

    index: int
    text: str


class Strangers:
    """Candidates on a ring of hashes: whoever comes next after a feature's own place stands in.

    A candidate more or less changes only who stood next to it, so that a run that is resumed or
    repeated draws the same ones but for those. Finding one looks at a few, not at all of them.
    """

    def __init__(self, candidates: Iterable[Candidate], *, seed: int) -> None:
        self._seed = seed
        places = {self._place(f"{c.index}/{c.text}"): c for c in candidates}
        self._ring = sorted(places.items(), key=_place_of)

    def text_for(self, own: Candidate) -> str | None:
        """The explanation of another feature with another text; None when there is none.

        >>> river, bank = Candidate(index=1, text="rivers"), Candidate(index=2, text="banks")
        >>> Strangers([river, bank], seed=0).text_for(river)
        'banks'
        >>> Strangers([river], seed=0).text_for(river) is None
        True
        """
        start = bisect(self._ring, self._place(str(own.index)), key=_place_of)
        for step in range(len(self._ring)):
            _, candidate = self._ring[(start + step) % len(self._ring)]
            if candidate.index != own.index and candidate.text != own.text:
                return candidate.text
        return None

    def _place(self, text: str) -> str:
        return hashlib.sha256(f"{self._seed}/{text}".encode()).hexdigest()


def _place_of(entry: tuple[str, Candidate]) -> str:
    return entry[0]
