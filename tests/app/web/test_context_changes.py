"""Changes of activations keep their sign, their peak and their window."""

import numpy as np

from app.web import context_changes
from app.web.forms import ContextOptions, Shown
from app.web.rows import context_rows
from core.domain.activation import Band
from core.domain.views_drift import AlignedContexts, ComparedContext
from tests.support.feature_pages import WORDS, context, page

BASE = context(1, Band.TOP, [0, 1, 2, 6], [0, 1, 4, 0])
ALIGNED = context(1, Band.TOP, [0, 1, 2, 6], [0, 1.5, 1, 0])
CHANGE = ContextOptions(show=Shown.CHANGE)


def compared():
    pair = ComparedContext(base=BASE, aligned=ALIGNED)
    found = object.__new__(AlignedContexts)
    object.__setattr__(found, "contexts", (pair,))
    return found


def shown(show):
    return context_changes.shown_page(page(5, contexts=(BASE,)), compared(), show)


def test_a_change_is_aligned_minus_base_and_peaks_where_it_is_largest():
    (changed,) = shown(Shown.CHANGE).contexts
    assert changed.activations.tolist() == [0, 0.5, -3, 0]
    assert changed.peak == 2
    assert changed.band is Band.TOP
    assert context_changes.largest_change(shown(Shown.CHANGE)) == 3


def test_rows_of_changes_have_signs_and_both_colours():
    (row,) = context_rows(shown(Shown.CHANGE), WORDS, CHANGE, base=page(5, contexts=(BASE,)))
    assert row.peak_text == "−3.00"
    assert row.scale == 3
    assert 'class="n12 p"' in row.html
    assert 'class="h' in row.html
    assert row.values == ",0.5,-3,"


def test_rows_of_the_aligned_model_wear_the_feature_s_own_scale():
    options = ContextOptions(show=Shown.ALIGNED)
    (row,) = context_rows(shown(Shown.ALIGNED), WORDS, options, base=page(5, contexts=(BASE,)))
    assert row.peak_text == "1.50"
    assert row.scale == 4


def test_a_window_is_that_of_the_base_unless_the_peak_lies_outside():
    ids, calm = [1] * 100, [0.0] * 100
    base_values, near, far = calm.copy(), calm.copy(), calm.copy()
    base_values[10], near[20], far[90] = 4.0, 3.0, 3.0
    base = context(1, Band.TOP, ids, base_values)
    options = ContextOptions(show=Shown.ALIGNED, width="narrow")

    def start(values):
        whole = page(5, contexts=(context(1, Band.TOP, ids, values),))
        (row,) = context_rows(whole, WORDS, options, base=page(5, contexts=(base,)))
        return row.start

    assert start(base_values) == start(near)
    assert start(far) > start(near)


def test_raw_changes_are_lines_of_tokens_and_signed_numbers():
    (record,) = context_changes.raw_texts(shown(Shown.CHANGE), WORDS, CHANGE)
    assert record.text.splitlines() == ["a\t+0.5", "␣b\t-3", "↵\t0"]
    some = ContextOptions(show=Shown.CHANGE, nonzero=True)
    (record,) = context_changes.raw_texts(shown(Shown.CHANGE), WORDS, some)
    assert len(record.text.splitlines()) == 2
    assert np.isclose(context_changes.largest_change(page(5, contexts=())), 0)
