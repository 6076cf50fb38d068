"""Sentences are recognised by their templates."""

from app.web.phrases import Phrases


def test_a_value_that_comes_twice_is_the_same_twice():
    known = Phrases([("%(x)s is not %(y)s, but %(x)s.", "%(x)s, %(y)s")], {})
    assert known.find("a is not b, but a.") == "a, b"
    assert known.find("a is not b, but c.") is None


def test_of_several_templates_the_one_that_says_most_counts():
    known = Phrases([("No %(x)s.", "short"), ("No model %(x)s of %(y)s.", "long")], {})
    assert (known.find("No model a of b."), known.find("No model a.")) == ("long", "short")
