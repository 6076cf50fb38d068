"""Whose explanation stands in for a feature's own: another's, the same ones again, spread out."""

from collections import Counter

from core.explaining.strangers import Candidate, Strangers

POOL = [Candidate(index=index, text=f"words about {index}") for index in range(200)]


def drawn(pool, *, seed=0):
    strangers = Strangers(pool, seed=seed)
    return [strangers.text_for(own) for own in POOL]


def test_nobody_stands_in_for_himself_or_for_the_same_text():
    assert all(text != own.text for text, own in zip(drawn(POOL), POOL, strict=True))
    twin = Candidate(index=7, text=POOL[0].text)
    assert Strangers([POOL[0], twin], seed=0).text_for(POOL[0]) is None
    assert Strangers([], seed=0).text_for(POOL[0]) is None


def test_a_candidate_less_changes_only_who_drew_it():
    before, after = drawn(POOL), drawn(POOL[:-1])
    changed = [a for a, b in zip(before, after, strict=True) if a != b]
    assert set(changed) <= {POOL[-1].text}


def test_another_seed_draws_others_and_many_are_drawn():
    assert drawn(POOL) == drawn(reversed(POOL))
    assert drawn(POOL) != drawn(POOL, seed=1)
    assert len(Counter(drawn(POOL))) > len(POOL) / 3
