"""Ids of models, SAEs and features are their own addresses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.ids import MODEL_ID, SAE_ID, FeatureId, check_model_id, check_sae_id
from core.errors import Invalid


@given(
    st.from_regex(MODEL_ID, fullmatch=True),
    st.from_regex(SAE_ID, fullmatch=True),
    st.integers(0, 10**9 - 1),
)
def test_a_feature_id_comes_back_from_its_text(model_id, sae_id, index):
    feature = FeatureId(model_id=model_id, sae_id=sae_id, index=index)
    assert FeatureId.parse(str(feature)) == feature
    assert re.fullmatch(r"[a-z0-9._/-]+", str(feature))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gemma-2-2b",
        "gemma-2-2b/12-res",
        "gemma-2-2b/12-res/",
        "gemma-2-2b/12-res/-1",
        "gemma-2-2b/12-res/1.0",
        "gemma-2-2b/12-res/1/2",
        "gemma-2-2b/12-res/٣",
        "gemma-2-2b/12-res/1234567890",
        "Gemma/12-res/1",
        "../12-res/1",
        "gemma 2/12-res/1",
        "gemma-2-2b/12-res/1\n",
    ],
)
def test_other_text_is_not_a_feature_id(text):
    with pytest.raises(Invalid):
        FeatureId.parse(text)


@pytest.mark.parametrize("text", ["a" * 81, "-a", ".a", "ä", "a/b", "a\n", ""])
def test_other_text_is_not_a_model_id(text):
    with pytest.raises(Invalid, match="not a model id"):
        check_model_id(text)


def test_an_sae_id_may_be_longer_than_a_model_id():
    assert check_sae_id("a" * 120) == "a" * 120
    with pytest.raises(Invalid, match="not an SAE id"):
        check_sae_id("a" * 121)


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl"])
def test_an_sae_id_cannot_be_taken_for_the_address_of_an_export(ending):
    with pytest.raises(Invalid, match="not an SAE id"):
        check_sae_id(f"12-res{ending}")
    assert check_sae_id("12-res.json-set") == "12-res.json-set"
