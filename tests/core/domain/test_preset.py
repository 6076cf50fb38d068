"""Presets are shipped by name or read from a file, and a wrong one says where."""

import pytest

from core.domain.preset import list_presets, load_preset
from core.errors import Invalid, NotFound

MINE = """
model_id = "mine"
[model]
kind = "folder"
location = "/models/mine"
[[saes]]
sae_id = "3-mine"
source = {kind = "folder", location = "/saes/3"}
[corpus]
kind = "file"
path = "/texts/a.jsonl"
"""


def test_a_file_is_read_like_a_shipped_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    spec = load_preset(str(path))
    assert (spec.model_id, spec.saes[0].sae_id, spec.context_size) == ("mine", "3-mine", 128)


def test_the_demo_is_shipped():
    assert "demo" in list_presets()
    assert load_preset("demo").kind == "harvest"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (("context_size = 4\n", ""), "context_size"),
        (("colour = 1\n", ""), "colour"),
        (("", "kind = 'folder'"), "not TOML"),
        (("n_top = 0\n", ""), "n_top"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, place):
    path = tmp_path / "mine.toml"
    path.write_text(change[0] + MINE + change[1] + "\n")
    if place == "not TOML":
        path.write_text(MINE + "= 3\n")
    with pytest.raises(Invalid, match=place):
        load_preset(str(path))


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path):
    for name in ("nothing", str(tmp_path), str(tmp_path / "nothing.toml")):
        with pytest.raises(NotFound) as caught:
            load_preset(name)
        assert "demo" in caught.value.hint
