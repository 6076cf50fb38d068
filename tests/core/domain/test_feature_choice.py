"""Constraint sets from chosen features: the last choice counts, contradictions are refused."""

import pytest

from core.domain.alignment import ConstraintSae, TagSource, Treated
from core.domain.feature_choice import Side, foremost, with_chosen
from core.domain.sae import SaeKind, SaeSource
from core.domain.views_align import ContrastRow
from core.errors import Invalid

SOURCE = SaeSource(kind=SaeKind.FOLDER, location="here")


def entry(**changes):
    return ConstraintSae(sae_id="1-tiny", source=SOURCE, **{"k": 7, **changes})


def row(index, difference, effect):
    return ContrastRow(
        index=index,
        mean_chosen=1.0,
        mean_rejected=1.0 - difference,
        difference=difference,
        effect_size=effect,
        share_chosen=1.0,
        share_rejected=1.0,
        density=0.5,
        corpus_density=None,
        peak_token=None,
        explanation=None,
    )


def test_features_are_held_with_a_weight_and_freed_and_nothing_else_changes():
    found = with_chosen(entry(weight=0.5), held=[9, 2, 9], free=[4], weight=3.0, d_sae=10)
    assert [(h.feature, h.weight) for h in found.held] == [(2, 3.0), (9, 3.0)]
    assert found.free == (4,)
    assert (found.k, found.weight, found.others) == (7, 0.5, 1.0)
    assert with_chosen(entry()) == entry()


def test_the_last_choice_of_a_feature_counts():
    first = with_chosen(entry(), held=[1, 2], free=[3], weight=2.0)
    second = with_chosen(first, held=[3], free=[2])
    assert [(h.feature, h.weight) for h in second.held] == [(1, 2.0), (3, 1.0)]
    assert second.free == (2,)


def test_only_held_features_are_constrained_if_wanted():
    assert with_chosen(entry(), held=[1], only_held=True).others == 0.0
    with pytest.raises(Invalid, match="No feature is held"):
        with_chosen(entry(), only_held=True)
    with pytest.raises(Invalid, match="No feature is held"):
        with_chosen(with_chosen(entry(), held=[1], only_held=True), free=[1])


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"held": [1], "free": [1]}, "both held and free"),
        ({"held": [10], "d_sae": 10}, "10 is not one"),
        ({"free": [-1]}, "-1 is not one"),
        ({"held": [1], "weight": 0.5}, "below 1"),
        ({"held": [1], "weight": float("nan")}, "below 1"),
    ],
)
def test_contradictions_are_refused_with_a_hint(choice, words):
    with pytest.raises(Invalid, match=words) as caught:
        with_chosen(entry(), **choice)
    assert caught.value.hint


def test_the_foremost_of_a_contrast_are_taken_by_side_and_size():
    rows = [row(0, 1.0, 0.5), row(1, -2.0, -3.0), row(2, 0.3, 0.9), row(3, 0.0, 0.0)]
    rows.append(row(4, 0.1, None))
    assert foremost(rows, 10, side=Side.CHOSEN) == (2, 0, 4)
    assert foremost(rows, 10, side=Side.REJECTED) == (1,)
    assert foremost(rows, 2, side=Side.BOTH) == (1, 2)


def test_tags_keep_only_features_that_are_still_treated_so():
    first = with_chosen(
        entry(),
        held=[3, 7],
        tags=[TagSource(tag="tone", treatment=Treated.HELD, features=(3, 7))],
    )
    assert [(one.tag, one.features) for one in first.tags] == [("tone", (3, 7))]
    second = with_chosen(
        first,
        free=[7, 9],
        tags=[TagSource(tag="calm", treatment=Treated.FREE, features=(7, 9))],
    )
    assert [(one.tag, one.features) for one in second.tags] == [("tone", (3,)), ("calm", (7, 9))]
    assert [one.tag for one in with_chosen(second, free=[3]).tags] == ["calm"]
