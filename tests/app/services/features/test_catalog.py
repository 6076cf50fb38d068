"""Vocabularies are read once a revision; tokens are exact."""

from app.services.features.catalog import (
    find_tokens,
    list_models,
    token,
    vocabulary,
)
from core.domain.views import Vocabulary
from tests.support.builders import publish_sample

WORDS = Vocabulary(
    model_id="m",
    tokens=(b"<bos>", b" Sorry", b"sorry", b"\xc3", b"\xe2\x82\xac"),
    special_ids=frozenset({0}),
)


def test_a_token_has_its_exact_bytes_and_a_readable_text():
    half = token(WORDS, 3)
    assert (half.raw, half.text, half.special) == (b"\xc3", "\ufffd", False)
    assert token(WORDS, 0).special


def test_an_id_outside_the_vocabulary_is_an_empty_token():
    assert token(WORDS, 99).raw == b""
    assert token(WORDS, -1).raw == b""


def test_tokens_are_found_by_text_in_any_case_page_by_page():
    found = find_tokens(WORDS, containing="SORRY", limit=1)
    assert [t.token_id for t in found] == [1]
    assert [t.token_id for t in find_tokens(WORDS, containing="SORRY", after=1)] == [2]


def test_a_vocabulary_is_read_once(session):
    first = publish(session)
    kept = vocabulary(session, model_id=first.model_id, revision=first.revision)
    assert vocabulary(session, model_id=first.model_id, revision=first.revision) is kept


def test_without_a_revision_it_is_the_models_own(session):
    first = publish(session)
    named = vocabulary(session, model_id=first.model_id, revision=first.revision)
    assert vocabulary(session, model_id=first.model_id) == named


def publish(session):
    """The card of a model with a small harvest."""
    publish_sample(session)
    (model,) = list_models(session)
    return model
