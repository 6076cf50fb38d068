"""What was read is kept while it is asked for."""

import pytest

from core.recent import Recent


def test_the_value_that_was_not_asked_for_longest_is_read_again():
    read: list[str] = []
    recent: Recent[str, str] = Recent(2)

    def value(key: str) -> str:
        def upper() -> str:
            read.append(key)
            return key.upper()

        return recent.get(key, upper)

    assert [value(key) for key in "abab"] == list("ABAB")
    assert read == ["a", "b"]
    value("c")
    assert [value(key) for key in "bc"] == ["B", "C"]
    assert read == ["a", "b", "c"]
    value("a")
    assert read == ["a", "b", "c", "a"]


def test_a_failure_is_not_kept():
    recent: Recent[str, int] = Recent(2)
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError):
        recent.get("a", lambda: nothing["a"])
    assert recent.get("a", lambda: 1) == 1
