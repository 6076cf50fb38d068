"""Answers are shown with what differs marked, and never lose a character."""

from hypothesis import given
from hypothesis import strategies as st

from app.web.answers import shown_pair
from core.domain.preference import PreferencePair, Role, Split, Turn


def pair_of(chosen, rejected):
    def said(role, text):
        return (Turn(role=role, content=text),)

    return PreferencePair(
        prompt=said(Role.USER, "Well?"),
        chosen=said(Role.ASSISTANT, chosen),
        rejected=said(Role.ASSISTANT, rejected),
        split=Split.TRAIN,
        row=0,
    )


def text_of(turns):
    return "".join(piece.text for turn in turns for piece in turn.pieces)


def marked(turns):
    return [piece.text for turn in turns for piece in turn.pieces if piece.differs]


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_text_stays_whole(chosen, rejected):
    shown = shown_pair(pair_of(chosen, rejected), 0)
    assert text_of(shown.chosen) == chosen
    assert text_of(shown.rejected) == rejected


def test_only_differing_words_are_marked():
    shown = shown_pair(pair_of("The shops are open now.", "The shops may be open now."), 0)
    assert shown.compared
    assert marked(shown.chosen) == ["are"]
    assert [text.strip() for text in marked(shown.rejected)] == ["may be"]


def test_answers_with_little_in_common_are_left_plain():
    shown = shown_pair(pair_of("Paris.", "I would rather not say anything about that."), 0)
    assert not shown.compared
    assert marked(shown.chosen) == []


def test_very_long_answers_are_not_compared():
    shown = shown_pair(pair_of("word " * 2_000, "word " * 2_000 + "more"), 0)
    assert not shown.compared
