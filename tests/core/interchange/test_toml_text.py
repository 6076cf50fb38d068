"""What is written as TOML is read back as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.align_preset import list_align_presets, load_align_preset
from core.interchange.toml_text import write_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    TEXT,
)
FLAT = st.dictionaries(TEXT, SCALAR, max_size=3)
ROW = st.builds(lambda flat, inner: {**flat, "inner": inner}, FLAT, FLAT)
VALUE = st.one_of(SCALAR, st.lists(SCALAR, max_size=3), FLAT, st.lists(FLAT, max_size=3))
TABLE = st.dictionaries(TEXT, st.one_of(VALUE, st.lists(ROW, max_size=3), ROW), max_size=4)


@given(TABLE)
def test_every_table_comes_back(table):
    assert tomllib.loads(write_toml(table)) == table


@pytest.mark.parametrize("name", list_align_presets())
def test_a_preset_comes_back(name):
    spec = load_align_preset(name)
    text = write_toml(spec.model_dump(mode="json"))
    assert type(spec).model_validate(tomllib.loads(text)) == spec


def test_what_is_none_is_left_out():
    assert write_toml({"a": None, "b": [{"c": None, "d": 1}]}) == "b = [{d = 1}]\n"
