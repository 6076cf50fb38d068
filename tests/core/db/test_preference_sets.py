"""Preference sets in the database: counts, refused rows, the same upload twice, deletion."""

import numpy as np
import pytest

from core.db.repositories import preference_sets
from core.domain.preference import PreferenceSet, RejectedRow, RejectReason
from core.errors import Invalid, NotFound
from core.interchange.preference_store import save_pairs
from core.interchange.preferences import parse_preferences
from core.interchange.rows import rows_of


def rows(n, *, empty=0, twice=0):
    good = [{"prompt": f"q{i}", "chosen": f"y{i}", "rejected": f"n{i}"} for i in range(n)]
    bad = [{"prompt": f"e{i}", "chosen": "", "rejected": "n"} for i in range(empty)]
    return [*good, *bad, *good[:twice]]


def add(session, folder, values, **changes):
    found = parse_preferences(rows_of(values), held_out_share=0.3)
    settings = {"name": "mine", "source": "mine.jsonl", "held_out_share": 0.3, **changes}
    return preference_sets.add(
        session, found=found, saved=save_pairs(found.pairs, folder), **settings
    )


def test_a_set_is_stored_with_its_counts_and_every_refused_row(session, tmp_path):
    values = rows(20, empty=2, twice=3)
    set_id, is_new = add(session, tmp_path, values, created_by="ann")
    card = preference_sets.get_set(session, set_id)
    assert is_new
    assert (card.n_rows, card.n_pairs, card.n_rejected) == (25, 20, 5)
    assert card.n_train + card.n_held_out == 20
    assert card.n_held_out > 0
    assert list(card.rejected_by_reason.items()) == [
        (RejectReason.DUPLICATE, 3),
        (RejectReason.EMPTY_ANSWER, 2),
    ]
    assert card.formats == {"trl_explicit": 20}
    assert card.created_by == "ann"
    page = preference_sets.list_rejected(session, set_id, limit=4)
    assert [row.row for row in page.rows] == [20, 21, 22, 23]
    assert (page.n_matching, page.next_offset) == (5, 4)
    rest = preference_sets.list_rejected(session, set_id, offset=4, limit=4)
    assert ([row.row for row in rest.rows], rest.next_offset) == ([24], None)
    assert rest.rows[0].detail == "Row 2 says the same."
    only = preference_sets.list_rejected(session, set_id, reason=RejectReason.EMPTY_ANSWER)
    assert [row.row for row in only.rows] == [20, 21]


def test_lines_say_where_each_pair_is_and_its_split(session, tmp_path):
    set_id, _ = add(session, tmp_path, rows(300))
    lengths, held_out = preference_sets.get_lines(session, set_id)
    card = preference_sets.get_set(session, set_id)
    assert lengths.sum() == card.n_bytes
    assert np.count_nonzero(held_out) == card.n_held_out


def test_the_same_upload_is_kept_once_and_other_refused_rows_are_another_set(session, tmp_path):
    first, _ = add(session, tmp_path, rows(5))
    again, is_new = add(session, tmp_path, rows(5), name="other name")
    other, other_is_new = add(session, tmp_path, rows(5, empty=1))
    assert (again, is_new) == (first, False)
    assert other != first
    assert other_is_new
    names = [card.set_id for card in preference_sets.list_sets(session)]
    assert names == [other, first]


def test_a_file_is_let_go_with_the_last_set_that_uses_it(session, tmp_path):
    first, _ = add(session, tmp_path, rows(5))
    other, _ = add(session, tmp_path, rows(5, empty=1))
    card = preference_sets.get_set(session, first)
    found = preference_sets.find_by_hash(session, card.content_hash)
    assert found is not None
    assert found.set_id == other
    assert preference_sets.delete(session, other) is None
    assert preference_sets.delete(session, first) == card.content_hash
    assert preference_sets.list_sets(session) == ()
    assert preference_sets.list_rejected(session, other).n_matching == 0


def test_texts_that_postgresql_cannot_hold_are_made_so(session, tmp_path):
    found = parse_preferences(rows_of(rows(1)))
    bad = RejectedRow(row=7, reason=RejectReason.BROKEN_TEXT, detail="a\0b", preview="\ud800 x")
    found = PreferenceSet(pairs=found.pairs, rejected=(bad,), n_rows=2)
    set_id, _ = preference_sets.add(
        session,
        name="n",
        source="s",
        found=found,
        saved=save_pairs(found.pairs, tmp_path),
        held_out_share=0.0,
    )
    (row,) = preference_sets.list_rejected(session, set_id).rows
    assert (row.detail, row.preview) == ("a␀b", "? x")


def test_a_missing_set_and_a_page_of_nothing_are_refused(session, tmp_path):
    for call in (
        lambda: preference_sets.get_set(session, 9),
        lambda: preference_sets.get_lines(session, 9),
        lambda: preference_sets.delete(session, 9),
        lambda: preference_sets.rename(session, 9, "x"),
    ):
        with pytest.raises(NotFound):
            call()
    set_id, _ = add(session, tmp_path, rows(2))
    with pytest.raises(Invalid):
        preference_sets.list_rejected(session, set_id, limit=0)
    preference_sets.rename(session, set_id, "new name")
    assert preference_sets.get_set(session, set_id).name == "new name"
