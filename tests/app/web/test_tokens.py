"""Token bytes become HTML whose text is exactly the bytes' text, whatever they are."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.web.tokens import (
    context_html,
    level,
    preview_html,
    preview_window,
    segments,
    text_of,
    token_label,
    token_title,
    window_around,
)
from core.domain.activation import Band, ContextActivations
from core.domain.views import Vocabulary

HARD = [
    b"<script>alert(1)</script>",
    b"&amp;",
    b"\"'",
    b"\n",
    b"\n\n",
    b"\t",
    b"\r\n",
    b"\x00",
    b"\x1b[0m",
    "\u202edesrever".encode(),
    "\u200b\u200d".encode(),
    " מילה".encode(),
    "السلام".encode(),
    "抱".encode(),
    "🙂".encode()[:1],
    "🙂".encode()[1:3],
    "🙂".encode()[3:],
    b"\xff",
    b"\xed\xa0\x80",  # a surrogate, which UTF-8 does not have
    b"\xc0\x80",
    b"",
    b"  two",
]
token_lists = st.lists(
    st.one_of(st.sampled_from(HARD), st.binary(max_size=6), st.text(max_size=5).map(str.encode)),
    min_size=1,
    max_size=30,
) | st.text(max_size=20).map(lambda text: [bytes([byte]) for byte in text.encode()] or [b"a"])


class Text(HTMLParser):
    """Text and elements of HTML, read as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def context_of(
    tokens: list[bytes], values: list[float] | None = None
) -> tuple[Vocabulary, ContextActivations]:
    """A vocabulary of these tokens and a context of all of them in order."""
    vocabulary = Vocabulary(model_id="m", tokens=tuple(tokens), special_ids=frozenset())
    context = ContextActivations(
        context_index=0,
        band=Band.TOP,
        token_ids=np.arange(len(tokens), dtype=np.int32),
        activations=np.array(values or [0.0] * len(tokens), dtype=np.float32),
        source="s",
        document=0,
        start=0,
    )
    return vocabulary, context


@given(token_lists)
@example([b"\xe6", b"\x8a", b"\xb1 a"])
@example([b"a\xf0\x9f", b"\x99\x82b"])
@example([b"\xc2", b"", b"\x9f\x99"])
@example([b"\xc2", b"", b"a"])
def test_the_text_of_a_context_is_exactly_the_text_of_its_bytes(tokens):
    vocabulary, context = context_of(tokens)
    html = context_html(vocabulary, context, scale=1.0, window=window_around(context, None))
    assert Text(str(html)).text == text_of(tokens)


@given(token_lists, st.integers(0, 2**32 - 1))
def test_a_preview_has_the_same_text(tokens, seed):
    values = np.random.default_rng(seed).choice([0.0, 0.5, 2.0], len(tokens)).tolist()
    vocabulary, context = context_of(tokens, values)
    html = preview_html(vocabulary, context, scale=2.0, window=window_around(context, None))
    assert Text(str(html)).text == text_of(tokens)


@given(token_lists)
def test_text_without_broken_bytes_comes_back_unchanged(tokens):
    joined = b"".join(tokens)
    try:
        expected = joined.decode("utf-8")
    except UnicodeDecodeError:
        return
    assert text_of(tokens) == expected.replace("\0", "\ufffd")


@given(token_lists)
def test_nothing_but_our_own_elements_comes_out(tokens):
    vocabulary, context = context_of(tokens)
    html = str(context_html(vocabulary, context, scale=1.0, window=window_around(context, None)))
    found = Text(html)
    assert set(found.tags) <= {"i", "b", "bdi"}
    assert found.attributes <= {"class", "data-x"}
    assert found.tags.count("i") == len(tokens)


@given(token_lists)
def test_each_token_has_one_element_so_that_values_keep_their_places(tokens):
    assert len(segments(tokens)) == len(tokens)


@given(token_lists)
def test_every_byte_is_shown_once(tokens):
    shown = segments(tokens)
    for token, parts in zip(tokens, shown, strict=True):
        own = b"".join(part.raw or part.text.encode() for part in parts)
        assert own == token


@given(token_lists, st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_window_holds_the_peak_and_shows_a_part_of_the_whole(tokens, width, seed):
    values = np.random.default_rng(seed).random(len(tokens)).tolist()
    vocabulary, context = context_of(tokens, values)
    window = window_around(context, width)
    assert window.start <= context.peak < window.stop
    assert window.stop - window.start == min(width, len(tokens))
    part = context_html(vocabulary, context, scale=1.0, window=window)
    whole = context_html(vocabulary, context, scale=1.0, window=window_around(context, None))
    assert Text(str(part)).text in Text(str(whole)).text


@given(token_lists, st.integers(1, 12), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_a_preview_begins_a_few_characters_before_the_peak(tokens, width, lead, seed):
    values = np.random.default_rng(seed).random(len(tokens)).tolist()
    vocabulary, context = context_of(tokens, values)
    window = preview_window(vocabulary, context, lead=lead, width=width)
    assert 0 <= window.start <= context.peak
    assert window.stop == min(window.start + width, len(tokens))

    def characters(start):
        before = tokens[start : context.peak]
        return sum(len(token.decode(errors="replace")) for token in before)

    assert characters(window.start) <= lead
    assert window.start == 0 or characters(window.start - 1) > lead


@given(st.binary(max_size=8))
def test_a_token_alone_has_its_text_too(token):
    vocabulary, _ = context_of([token])
    shown = Text(str(token_label(vocabulary, 0)))
    assert shown.text == text_of([token])
    assert "\n" not in token_title(vocabulary, 0)


def test_spaces_at_the_ends_of_a_token_alone_are_marked():
    vocabulary, _ = context_of([b" sorry", b"sorry", b"  "])
    labels = [str(token_label(vocabulary, index)) for index in range(3)]
    assert labels[0].count('<b class="s"> </b>') == 1
    assert '<b class="s">' not in labels[1]
    assert labels[2].count('<b class="s"> </b>') == 2


def test_a_character_split_over_tokens_stands_where_it_is_complete():
    parts = segments([b"\xf0\x9f", b"\x99", b"\x82!"])
    assert [part.text for token in parts for part in token] == ["", "", "🙂", "!"]
    assert [part.raw for token in parts for part in token] == [b"\xf0\x9f", b"\x99", b"\x82", b""]


def test_an_override_of_direction_cannot_reach_the_tokens_after_it():
    vocabulary, context = context_of(["\u202e".encode(), b"after"])
    html = str(context_html(vocabulary, context, scale=1.0, window=window_around(context, None)))
    assert '<b class="z">\u202e</b>' in html


def test_special_tokens_do_not_decide_the_direction_of_a_row():
    vocabulary = Vocabulary(
        model_id="m", tokens=(b"<bos>", "شكرا".encode()), special_ids=frozenset({0})
    )
    _, context = context_of([b"<bos>", b"x"])
    html = str(context_html(vocabulary, context, scale=1.0, window=window_around(context, None)))
    assert html.startswith('<bdi class="q">&lt;bos&gt;</bdi>')


def test_an_id_outside_the_vocabulary_shows_as_its_number():
    vocabulary, _ = context_of([b"a"])
    assert "&lt;7&gt;" in str(token_label(vocabulary, 7))


@given(st.floats(0.001, 1e6), st.floats(0, 2))
def test_levels_grow_with_the_share_of_the_scale(scale, share):
    assert 0 <= level(share * scale, scale) <= 12
    assert level(share * scale, scale) <= level(min(1.0, share * 1.5) * scale + 1e-9, scale)
    assert level(-share * scale, scale) == -level(share * scale, scale)


@pytest.mark.parametrize(("values", "classes"), [([0, 4, 0], ["h12 p"]), ([0, 0, 0], [])])
def test_only_a_positive_peak_is_marked(values, classes):
    vocabulary, context = context_of([b"a", b"b", b"c"], values)
    html = str(context_html(vocabulary, context, scale=4.0, window=window_around(context, None)))
    assert re.findall(r'class="([^"]*)"', html) == classes
