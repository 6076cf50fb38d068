"""Texts of tokens, models and people neither run in a page nor leave their row."""

import time
from html.parser import HTMLParser

import pytest

from app.services.explain.live import LiveKind, LiveStep
from app.web import tokens
from app.web.render import fragment
from core.db.repositories import scores
from core.db.repositories.scores import NewScore
from core.domain.explanation import ExplanationMethod
from core.domain.ids import FeatureId
from tests.support.builders import MODEL_ID, SAE_ID, publish_sample
from tests.support.explained import (
    HOSTILE,
    HOSTILE_MESSAGE,
    HOSTILE_TEXT,
    add_explanation,
    add_hostile,
    simulated,
    simulation,
)

FEATURE = FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=0)


class Reader(HTMLParser):
    """Elements and attributes of a page, and the text inside of elements with a class."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = []
        self.attributes = []
        self.bare_scripts = 0
        self.texts = {}

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.bare_scripts += tag == "script" and "src" not in given
        if tag not in {"meta", "link", "input", "br", "img", "path", "use", "rect", "line"}:
            self.open.append((tag, given.get("class") or "", given.get("id") or ""))

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data):
        for place, (tag, names, _) in enumerate(self.open):
            for name in names.split():
                key = (name, tag, tuple(id(one) for one in self.open[: place + 1]))
                self.texts.setdefault(key, []).append(data)


def inside(page, name):
    """The text of every element of a class, in order."""
    reader = Reader()
    reader.feed(page)
    found = [(key, "".join(parts)) for key, parts in reader.texts.items() if key[0] == name]
    return [text for _, text in found]


@pytest.fixture(scope="module")
def hostile(scope):
    with scope() as session:
        publish_sample(session)
        explanation_id, score_id = add_hostile(session, FEATURE)
        add_explanation(session, FEATURE, text="plain", method=ExplanationMethod.LLM)
        return explanation_id, score_id


@pytest.fixture
def pages(client, hostile):
    explanation_id, score_id = hostile
    feature = f"/{FEATURE}"
    paths = (
        feature,
        f"/{MODEL_ID}/{SAE_ID}",
        f"{feature}/explain?preview=1",
        f"{feature}/explain?score={explanation_id}",
        f"{feature}/compare",
        f"/explanations/{explanation_id}",
        f"/explanations/{explanation_id}/edit",
        f"/explanations/{explanation_id}/delete",
        f"/scores/{score_id}",
    )
    answers = {path: client.get(path) for path in paths}
    assert {path: a.status_code for path, a in answers.items() if a.status_code != 200} == {}
    return {path: answer.text for path, answer in answers.items()}


def test_nothing_in_a_text_becomes_an_element_or_an_attribute(pages):
    for path, page in pages.items():
        reader = Reader()
        reader.feed(page)
        assert reader.bare_scripts == 0, path
        assert not any(name.startswith("on") for _, name, _ in reader.attributes), path
        assert not any(tag == "img" for tag, _, _ in reader.attributes), path


def test_no_template_language_runs_inside_a_text(pages):
    assert any("{{ 7 * 7 }}" in page for page in pages.values())


def test_hidden_characters_of_an_explanation_can_be_seen_and_are_isolated(pages, hostile):
    page = pages[f"/explanations/{hostile[0]}"]
    assert '<b class="z">\u202e</b>' in page
    said = inside(page, "said")
    assert said[0] == HOSTILE_TEXT


def test_a_token_never_leaves_its_place_in_a_row(pages, hostile):
    page = pages[f"/scores/{hostile[1]}"]
    rows = [row.split("</p>")[0] for row in page.split('<p class="tx" dir="auto">')[1:]]
    assert rows
    for row in rows:
        assert row.count("<i") == row.count("</i>") == len(HOSTILE)
    expected = "".join(HOSTILE).replace("\x00", tokens.REPLACEMENT)
    assert all(text == expected for text in inside(page, "tx"))


def test_a_message_is_shown_with_its_white_space_and_is_otherwise_itself():
    shown = tokens.message_html(HOSTILE_MESSAGE)
    (text,) = inside(f'<pre class="all">{shown}</pre>', "all")
    assert text == HOSTILE_MESSAGE
    assert shown.count('class="tab"') == HOSTILE_MESSAGE.count("\t")
    assert shown.count('class="end"') == HOSTILE_MESSAGE.count("\n")
    assert "<script" not in shown


@pytest.mark.parametrize("text", [*HOSTILE, HOSTILE_TEXT, "", " ", "\u200d", "a" * 1000])
def test_a_text_is_itself_when_it_is_read_back(text):
    (found,) = inside(f'<p class="all">x{tokens.text_html(text)}</p>', "all")
    assert found == "x" + text.replace("\x00", tokens.REPLACEMENT)


def test_forty_contexts_of_sixty_four_tokens_are_a_small_page_at_once(client, scope, hostile):
    words = tuple(f" word{i}" for i in range(64))
    with scope() as session:
        score_id = scores.add(
            session,
            NewScore(
                explanation_id=hostile[0],
                score=simulation(),
                examples=tuple(simulated(i, words) for i in range(40)),
            ),
        )
    client.get(f"/scores/{score_id}")
    start = time.perf_counter()
    answer = client.get(f"/scores/{score_id}")
    taken = time.perf_counter() - start
    assert "style=" not in answer.text
    assert answer.text.count("<i") >= 40 * 64 * 2
    assert len(answer.content) < 300_000
    assert taken < 1.5, taken  # 60 ms on an idle machine


def test_a_raw_answer_cannot_break_out_of_its_step():
    step = LiveStep(kind=LiveKind.FAILED, code="parse", message=HOSTILE_TEXT, hint=HOSTILE_TEXT)
    shown = fragment("explanation/_step.html", {"step": step})
    reader = Reader()
    reader.feed(shown)
    assert reader.bare_scripts == 0
    assert not any(tag == "img" for tag, _, _ in reader.attributes)
