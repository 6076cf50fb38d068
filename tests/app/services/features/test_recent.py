"""What was read is kept while it is asked for."""

import pytest

from app.services.features.recent import Recent


def test_the_value_that_was_not_asked_for_longest_is_read_again():
    read = []

    def value(key):
        return recent.get(key, lambda: read.append(key) or key.upper())

    recent = Recent(2)
    assert [value(key) for key in "abab"] == list("ABAB")
    assert read == ["a", "b"]
    value("c")
    assert [value(key) for key in "bc"] == ["B", "C"]
    assert read == ["a", "b", "c"]
    value("a")
    assert read == ["a", "b", "c", "a"]


def test_a_failure_is_not_kept():
    recent = Recent(2)
    with pytest.raises(KeyError):
        recent.get("a", lambda: {}["a"])
    assert recent.get("a", lambda: 1) == 1
