import pytest

from core.autointerp.sampling import Specimen
from core.domain.ids import FeatureId
from core.errors import Invalid
from core.explaining.material import Material, SplitSizes, draw_of, split_of, strongest_tokens
from tests.support.planted import RULES, specimens

FEATURE = FeatureId(model_id="m", sae_id="s", index=3)
SIZES = SplitSizes(seed=7)


def material(extra=()):
    return Material(
        feature=FEATURE,
        harvest_id=1,
        specimens=(*specimens(RULES["the word river"], seed=1), *extra),
        promoted=(),
        suppressed=(),
    )


def numbers(*groups):
    return {specimen.context_index for group in groups for specimen in group}


def scored(split):
    return numbers(split.score_top, split.score_random, split.positives, split.negatives)


def test_the_same_seed_splits_alike_and_another_does_not():
    assert split_of(material(), SIZES) == split_of(material(), SIZES)
    other = split_of(material(), SplitSizes(seed=8))
    assert other.negatives != split_of(material(), SIZES).negatives
    assert draw_of(1, FEATURE, "a").random() != draw_of(1, FEATURE, "b").random()


def test_what_an_explanation_was_made_from_never_scores_it():
    split = split_of(material(), SIZES)
    assert not numbers(split.explain) & scored(split)
    assert split_of(material(), SIZES, seen=numbers(split.explain)) == split
    seen = numbers(split.score_top)
    assert not seen & scored(split_of(material(), SIZES, seen=seen))


def test_a_text_that_was_seen_never_scores_under_another_number():
    first = split_of(material(), SIZES).score_top[0]
    twin = Specimen(context_index=9_999, band=first.band, record=first.record)
    split = split_of(material([twin]), SIZES, seen={first.context_index})
    assert 9_999 not in scored(split)


def test_tokens_are_listed_from_contexts_to_explain_from_only():
    split = split_of(material(), SIZES)
    assert strongest_tokens(split) == (" river",)


def test_a_feature_that_fires_too_seldom_is_refused():
    bare = Material(feature=FEATURE, harvest_id=1, specimens=(), promoted=(), suppressed=())
    with pytest.raises(Invalid, match="too few"):
        split_of(bare, SIZES)
