"""What people type becomes harmless, in one spelling, or is refused with a way to mend it."""

import pytest

from app.services.labels.texts import checked, checked_tag, checked_tags, split_tags
from app.services.problems import FieldsInvalid
from core.errors import Invalid
from tests.support.explained import HOSTILE, HOSTILE_TEXT


def test_names_are_cleaned_as_explanations_are():
    found = checked(name="  names\nof <end> people\u200b\u202e ")
    assert found.name == "names of <·end> people"
    assert checked(name=found.name) == found


def test_notes_keep_their_lines_and_nothing_hidden():
    found = checked(name="x", note="one\r\n\ttwo\u2066\x00\n\n<|im_end|>\n")
    assert found.note == "one\n two\n\n<·|im_end|>"
    assert checked(name="x", note=found.note) == found


@pytest.mark.parametrize("text", [*HOSTILE, HOSTILE_TEXT])
def test_hostile_texts_are_kept_as_text_and_stay_the_same(text):
    found = checked(name=text[:100], note=text)
    assert checked(name=found.name, note=found.note) == found
    assert not set("\x00\u202e\u200b\u2066\r\t") & set(found.name + found.note)


@pytest.mark.parametrize(
    ("typed", "tag"),
    [
        ("Sycophancy", "sycophancy"),
        ("made  up\twords", "made-up-words"),
        ("谄媚", "谄媚"),
        ("हिन्दी", "हिन्दी"),
        ("ｔone:1", "tone:1"),
        ("a\u200bb\u202e", "ab"),
        ("-trim-", "trim"),
        ("cafe\u0301", "café"),
    ],
)
def test_a_tag_has_one_spelling(typed, tag):
    assert checked_tag(typed) == tag == checked_tag(tag)


@pytest.mark.parametrize("typed", ["", "  ", "!", "a/b", "<b>", "..", ".", "a,b", "x" * 41, "_x"])
def test_what_is_no_tag_is_refused(typed):
    with pytest.raises(Invalid):
        checked_tag(typed)


def test_tags_are_typed_in_one_field_in_both_languages():
    assert split_tags(" a, b c；d、e\nf,, ") == ["a", "b c", "d", "e", "f"]
    assert checked_tags(["b c", "B C", ""]) == ("b-c",)


def test_too_many_tags_are_refused():
    with pytest.raises(Invalid, match="51 tags"):
        checked_tags([f"t{n}" for n in range(51)])


def test_every_problem_is_named_with_its_field():
    with pytest.raises(FieldsInvalid) as caught:
        checked(name="x" * 121, note="y" * 4001, tags=["!"])
    assert [problem.path for problem in caught.value.problems] == ["name", "note", "tags"]
    assert all(problem.hint for problem in caught.value.problems)
