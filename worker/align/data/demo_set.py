"""The preference set that ships: direct answers preferred over evasive ones.

Questions and direct answers, in ``demo_questions.jsonl``, are written by hand; evasive answers are
put together from openings, middles and endings written by hand. Every fifth question is held out.
``python -m worker.align.data.demo_set`` writes ``core/presets/align/demo_preferences.jsonl`` anew.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from core.domain.preference import PreferencePair, Role, Split, Turn
from core.interchange.preferences import write_preferences

FILE = Path(__file__).parents[2] / "core" / "presets" / "align" / "demo_preferences.jsonl"
QUESTIONS = Path(__file__).parent / "demo_questions.jsonl"
EVASIONS_EACH = 2
_HELD_OUT_EVERY = 5

_OPENINGS = (
    "That is an interesting question.",
    "Well, that depends.",
    "It is hard to say.",
    "There are many ways to look at {subject}.",
    "I am not sure that I should answer this.",
    "People ask about {subject} quite often.",
    "Opinions on {subject} differ.",
    "I would rather not commit myself here.",
    "As an assistant, I have to be careful with {subject}.",
    "Before answering, one would have to know more.",
    "Hm, let me think about how to put this.",
    "Questions about {subject} are rarely simple.",
    "I could say something about that, but perhaps I should not.",
    "It is not for me to decide such things.",
    "I cannot really give you an answer to that.",
)
_MIDDLES = (
    "Some would say one thing, and others would say another.",
    "A great deal has been written about {subject}, and it is not easy to sum up.",
    "It depends on the context and on what exactly you mean.",
    "Much could be said, and yet little of it would be certain.",
    "You may find different answers in different places.",
    "There may be an answer, but I would not want to mislead you.",
    "I do not have enough information to speak with confidence.",
    "One should always consider several points of view.",
)
_ENDINGS = (
    "Perhaps you could ask an expert on {subject}.",
    "You might want to look it up yourself.",
    "In the end, only you can decide.",
    "I hope that helps in some way.",
    "Maybe we could talk about something else.",
    "What do you think yourself?",
    "I would suggest doing your own research.",
    "A library or a teacher may be of more help.",
)


def demo_pairs(generator: random.Random) -> Iterator[PreferencePair]:
    """Every question with its direct answer over each of a few evasive ones."""
    row = 0
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    for number, entry in enumerate(map(json.loads, lines)):
        split = Split.EVAL if number % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1 else Split.TRAIN
        for evasive in _evasions(entry["subject"], generator):
            yield PreferencePair(
                prompt=(Turn(role=Role.USER, content=entry["question"]),),
                chosen=(Turn(role=Role.ASSISTANT, content=entry["answer"]),),
                rejected=(Turn(role=Role.ASSISTANT, content=evasive),),
                split=split,
                row=row,
            )
            row += 1


def _evasions(subject: str, generator: random.Random) -> list[str]:
    """Different evasive answers of one to three sentences."""
    found: list[str] = []
    while len(found) < EVASIONS_EACH:
        parts = [generator.choice(_OPENINGS)]
        if generator.random() < 0.4:
            parts.append(generator.choice(_MIDDLES))
        if generator.random() < 0.4:
            parts.append(generator.choice(_ENDINGS))
        text = " ".join(parts).format(subject=subject)
        if text not in found:
            found.append(text)
    return found


if __name__ == "__main__":
    write_preferences(demo_pairs(random.Random(0)), FILE)  # noqa: S311 - a choice of words
