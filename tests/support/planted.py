"""Synthetic features with known rules over made-up text."""

import random
from collections.abc import Sequence

from core.autointerp.sampling import Specimen
from core.domain.activation import ActivationRecord, Band

WORDS = [
    "the",
    "a",
    "boat",
    "stone",
    "market",
    "letter",
    "winter",
    "garden",
    "light",
    "teacher",
    "road",
    "window",
    "small",
    "old",
    "bright",
    "slowly",
    "never",
    "always",
    "with",
    "under",
    "near",
    "of",
    "and",
    "but",
    "then",
    "because",
]
ENDING = ["walking", "singing", "building", "reading", "cooking"]
N_TOKENS = 20


def word_rule(tokens: Sequence[str]) -> list[float]:
    """Fires on the word river."""
    return [10.0 if token.strip() == "river" else 0.0 for token in tokens]


def suffix_rule(tokens: Sequence[str]) -> list[float]:
    """Fires on words that end in -ing."""
    return [8.0 if token.endswith("ing") and len(token) > 5 else 0.0 for token in tokens]


def position_rule(tokens: Sequence[str]) -> list[float]:
    """Fires on the token after a comma."""
    return [9.0 if i > 0 and tokens[i - 1] == "," else 0.0 for i in range(len(tokens))]


def range_rule(tokens: Sequence[str]) -> list[float]:
    """Fires on numbers from 1900 to 1999, more strongly the later the year."""
    numbers = [int(t) if t.strip().isdecimal() else 0 for t in tokens]
    return [5 + round((n - 1900) / 20) if 1900 <= n <= 1999 else 0.0 for n in numbers]


RULES = {
    "the word river": word_rule,
    "words that end in -ing": suffix_rule,
    "the word that follows a comma": position_rule,
    "years of the twentieth century": range_rule,
}


def text_tokens(rng: random.Random) -> tuple[str, ...]:
    """Twenty tokens of made-up text in which every rule may fire."""
    tokens: list[str] = []
    while len(tokens) < N_TOKENS:
        draw = rng.random()
        if draw < 0.06:
            tokens.append(" river")
        elif draw < 0.12:
            tokens.append(" " + rng.choice(ENDING))
        elif draw < 0.18 and tokens and tokens[-1] != ",":
            tokens.append(",")
        elif draw < 0.24:
            tokens.append(f" {rng.randrange(1900, 2000, 9)}")
        elif draw < 0.27:
            tokens.append(f" {rng.randrange(100, 1900, 200)}")
        else:
            tokens.append(" " + rng.choice(WORDS))
    return tuple(tokens)


def specimens(rule, *, seed: int, n: int = 300) -> list[Specimen]:
    """Contexts with the rule's activations, a little noisy, in the bands of a harvest."""
    rng = random.Random(seed)
    made = []
    for index in range(n):
        tokens = text_tokens(rng)
        noisy = tuple(a * 0.7 * rng.uniform(0.85, 1.15) for a in rule(tokens))
        made.append((index, ActivationRecord(tokens=tokens, activations=noisy)))
    strongest = sorted(made, key=lambda pair: -max(pair[1].activations))
    bands = {index: Band.TOP for index, _ in strongest[:20]}
    for place, (index, record) in enumerate(strongest[20:]):
        if max(record.activations) > 0 and place % 5 == 0:
            bands[index] = Band.Q50_75
    return [
        Specimen(context_index=index, band=bands.get(index, Band.RANDOM), record=record)
        for index, record in made
        if index in bands or index % 3 == 0
    ]
