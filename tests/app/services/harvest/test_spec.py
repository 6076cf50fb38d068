"""Harvest settings: every problem is found at once and named by its field."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.harvest.spec import RESERVED_IDS, check_spec, read_form
from app.services.problems import FieldsInvalid
from core.domain.preset import load_preset


def values(**changes: object) -> dict[str, object]:
    """Settings over a hub model, hub SAE and hub corpus, which cannot be looked at."""
    base: dict[str, object] = {
        "model_id": "m",
        "model": {"kind": "hub", "location": "google/gemma-2-2b"},
        "saes": [
            {
                "sae_id": "12-x",
                "source": {"kind": "hub", "location": "r", "release_id": "layer_12/a"},
            }
        ],
        "corpus": {"kind": "hub", "name": "monology/pile-uncopyrighted"},
    }
    return base | changes


def problems_of(given_values: dict[str, object]) -> dict[str, str]:
    with pytest.raises(FieldsInvalid) as caught:
        check_spec(given_values)
    assert all(problem.message.endswith(".") for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


def local_sae(folder, *, d_in=8, hook_name="blocks.1.hook_resid_post"):
    folder.mkdir()
    config = {"d_in": d_in, "d_sae": 32, "architecture": "jumprelu"}
    metadata = {"hook_name": hook_name}
    (folder / "cfg.json").write_text(json.dumps(config | {"metadata": metadata}))
    return {"sae_id": "1-x", "source": {"kind": "folder", "location": str(folder)}}


def local_model(folder):
    folder.mkdir()
    config = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 50}
    (folder / "config.json").write_text(json.dumps(config))
    return {"kind": "folder", "location": str(folder)}


def test_settings_without_a_fault_become_a_spec():
    assert check_spec(values()).saes[0].sae_id == "12-x"


def test_a_shipped_preset_has_no_fault_but_files_that_are_not_there():
    spec = load_preset("gemma-2-2b")
    assert check_spec(spec.model_dump(mode="json")) == spec


def test_numbers_may_come_as_text_as_forms_send_them():
    assert check_spec(values(context_size="256", seed="7")).context_size == 256


def test_every_problem_is_told_at_once():
    found = problems_of(
        values(
            model_id="Not An Id",
            context_size=2,
            device="tpu",
            corpus={"kind": "file", "path": "/no/such/file.txt"},
            model={"kind": "folder", "location": "/no/such/folder"},
        )
    )
    assert set(found) == {"model_id", "context_size", "device", "corpus.path", "model.location"}


def test_a_missing_field_is_named_with_its_place():
    found = problems_of(values(saes=[{"source": {"kind": "hub", "location": "r"}}]))
    assert "saes.0.sae_id" in found


def test_an_unknown_field_is_refused():
    assert "learning_rate" in problems_of(values(learning_rate=1))


def test_a_union_is_named_without_its_tag():
    found = problems_of(values(corpus={"kind": "file", "path": "", "colour": 1}))
    assert set(found) == {"corpus.path", "corpus.colour"}


def test_no_values_at_all_is_no_crash():
    assert set(problems_of({})) == {"model_id", "model", "saes", "corpus"}


@pytest.mark.parametrize("word", sorted(RESERVED_IDS))
def test_a_word_of_addresses_is_no_id(word):
    assert "model_id" in problems_of(values(model_id=word))


def test_two_saes_of_one_id_are_refused():
    sae = {"sae_id": "1-x", "source": {"kind": "hub", "location": "r", "release_id": "layer_1"}}
    assert "saes.1.sae_id" in problems_of(values(saes=[sae, sae]))


def test_a_hub_sae_needs_the_id_within_its_release():
    sae = {"sae_id": "1-x", "source": {"kind": "hub", "location": "r"}}
    assert set(problems_of(values(saes=[sae]))) == {"saes.0.source.release_id"}


def test_a_local_sae_of_another_width_does_not_fit_the_model(tmp_path):
    model, sae = local_model(tmp_path / "model"), local_sae(tmp_path / "sae", d_in=16)
    found = problems_of(values(model=model, saes=[sae]))
    assert "16 numbers a token, the model has 8" in found["saes.0.source.location"]


def test_a_local_sae_of_a_layer_that_is_not_there_is_refused(tmp_path):
    model = local_model(tmp_path / "model")
    sae = local_sae(tmp_path / "sae", hook_name="blocks.2.hook_resid_post")
    assert "2 layers" in problems_of(values(model=model, saes=[sae]))["saes.0.source.hook_name"]


def test_a_local_sae_that_fits_is_taken(tmp_path):
    model, sae = local_model(tmp_path / "model"), local_sae(tmp_path / "sae")
    assert check_spec(values(model=model, saes=[sae])).saes[0].sae_id == "1-x"


def test_an_npz_is_read_by_its_header(tmp_path):
    path = tmp_path / "params.npz"
    np.savez(path, W_enc=np.zeros((16, 4), dtype=np.float32))
    sae = {
        "sae_id": "1-x",
        "source": {
            "kind": "npz",
            "location": str(path),
            "hook_name": "blocks.1.hook_resid_post",
        },
    }
    found = problems_of(values(model=local_model(tmp_path / "model"), saes=[sae]))
    assert set(found) == {"saes.0.source.location"}


def test_an_archive_that_is_no_sae_is_told(tmp_path):
    path = tmp_path / "params.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W_enc.npy", b"nonsense")
    sae = {"sae_id": "1-x", "source": {"kind": "npz", "location": str(path)}}
    assert "saes.0.source.location" in problems_of(values(saes=[sae]))


def test_a_folder_without_text_files_is_told(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    found = problems_of(values(corpus={"kind": "folder", "path": str(tmp_path)}))
    assert set(found) == {"corpus.suffixes"}


@pytest.mark.parametrize("path", ["\0", "a" * 5_000, "~no_such_user_of_this_machine/x", "/root/\n"])
def test_no_path_is_a_crash(path):
    assert "corpus.path" in problems_of(values(corpus={"kind": "file", "path": path}))
    assert "model.location" in problems_of(values(model={"kind": "gguf", "location": path}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model_id", "model", "saes", "corpus", "x"]), json_values))
def test_any_json_is_either_settings_or_problems(anything):
    with pytest.raises(FieldsInvalid):
        check_spec(anything)


def test_a_forms_dotted_names_nest():
    items = [
        ("model_id", " m "),
        ("model.kind", "hub"),
        ("saes.1.sae_id", "b"),
        ("saes.0.sae_id", "a"),
        ("saes.10.sae_id", "c"),
        ("corpus.column", ""),
    ]
    assert read_form(items) == {
        "model_id": "m",
        "model": {"kind": "hub"},
        "saes": [{"sae_id": "a"}, {"sae_id": "b"}, {"sae_id": "c"}],
    }


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=5)), max_size=8))
def test_any_form_nests_without_a_crash(items):
    assert isinstance(read_form(items), dict)
