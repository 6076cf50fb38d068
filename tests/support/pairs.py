"""Preference pairs for tests."""

from core.domain.preference import PreferencePair, Role, Split, Turn


def some_pairs(n_train: int, n_held_out: int) -> tuple[PreferencePair, ...]:
    """Questions with a direct and an evasive answer that share some words."""
    return tuple(
        PreferencePair(
            prompt=(Turn(role=Role.USER, content=f"What is {row} and one?"),),
            chosen=(Turn(role=Role.ASSISTANT, content=f"The answer is {row + 1}, of course."),),
            rejected=(Turn(role=Role.ASSISTANT, content="The answer is hard to say, of course."),),
            split=Split.TRAIN if row < n_train else Split.EVAL,
            row=row,
        )
        for row in range(n_train + n_held_out)
    )
