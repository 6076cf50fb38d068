"""The shipped preference pairs: what their generator makes, varied, with a held-out part."""

import random

from core.domain.alignment import DemoPreferences
from core.domain.preference import content_hash
from worker.align.data.demo_set import demo_pairs
from worker.align.data.sources import load_preferences


def test_the_file_is_what_its_generator_makes():
    made = tuple(demo_pairs(random.Random(0)))
    shipped = load_preferences(DemoPreferences()).pairs
    assert content_hash(shipped) == content_hash(made), "run python -m worker.align.data.demo_set"


def test_a_few_hundred_pairs_and_no_question_on_both_sides():
    found = load_preferences(DemoPreferences())
    assert not found.rejected
    assert 200 <= len(found.train) <= 500
    assert len(found.held_out) >= 40
    assert not {pair.prompt for pair in found.train} & {pair.prompt for pair in found.held_out}


def test_answers_are_varied():
    pairs = load_preferences(DemoPreferences()).pairs
    evasive = {pair.rejected for pair in pairs}
    assert len(evasive) > 200
    assert len({pair.chosen for pair in pairs}) > 150
