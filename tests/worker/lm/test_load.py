"""Models from a folder, a GGUF file and the hub, and what is said when that fails."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.domain.model import Dtype, ModelKind, ModelSource
from core.errors import DownloadFailed, Invalid, ModelMissing, OutOfMemory
from tests.support.fake_hub import COMMIT, FakeHub, fake_hub, point_to
from tests.support.gemma_tokenizer import gemma_tokenizer
from tests.support.tiny_gguf import write_gguf
from tests.support.tiny_models import save_folder, tiny_gemma2, tiny_llama
from worker.lm.capture import capture
from worker.lm.load import LoadedModel, describe_model, load_model
from worker.lm.tokens import make_contexts
from worker.packages import file_sha256

NAME = "tiny/gemma"
N_GEMMA = 362  # tokens of the made Gemma tokenizer, rounded up


def _load(
    location: Path | str,
    tmp_path: Path,
    *,
    kind: ModelKind = ModelKind.FOLDER,
    revision: str | None = None,
    dtype: Dtype = Dtype.FLOAT32,
    device: str = "cpu",
) -> LoadedModel:
    source = ModelSource(kind=kind, location=str(location), revision=revision)
    return load_model(source, dtype=dtype, device=device, cache_dir=tmp_path / "cache")


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    model = tiny_gemma2(dtype=torch.float32, vocab_size=N_GEMMA, bos_token_id=2, eos_token_id=1)
    return save_folder(tmp_path / "gemma", model, gemma_tokenizer())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path / "hub-cache") as running:
        yield running


def test_a_folder_is_loaded_with_its_tokenizer_and_facts(gemma, tmp_path):
    loaded = _load(gemma, tmp_path)
    info = loaded.info
    assert (info.n_layers, info.d_model, info.vocab_size) == (2, 16, N_GEMMA)
    assert info.architecture == "Gemma2ForCausalLM"
    assert info.revision == file_sha256(gemma / "model.safetensors")
    assert info.bos_rule == "Each context starts with the BOS token <bos>."
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    contexts = make_contexts(loaded.tokenizer, ["the theatre"], context_size=8)
    found = capture(
        loaded, contexts.input_ids, contexts.attention_mask, ["blocks.1.hook_resid_post"]
    )
    assert found["blocks.1.hook_resid_post"].shape == (len(contexts), 8, 16)


def test_bfloat16_weights_are_the_rounded_ones(gemma, tmp_path):
    exact, rounded = (
        _load(gemma, tmp_path, dtype=dtype).model.get_parameter("model.embed_tokens.weight")
        for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16)
    )
    assert torch.equal(rounded, exact.bfloat16())


def test_the_revision_follows_the_weights_not_the_path(gemma, tmp_path):
    first = _load(gemma, tmp_path).info.revision
    moved = gemma.rename(tmp_path / "elsewhere")
    assert _load(moved, tmp_path).info.revision == first
    model = tiny_gemma2(seed=1, dtype=torch.float32, vocab_size=N_GEMMA)
    model.save_pretrained(moved)
    assert _load(moved, tmp_path).info.revision != first


def test_the_revision_of_shards_is_what_sha256sum_gives(gemma, tmp_path):
    model = _load(gemma, tmp_path).model
    (gemma / "model.safetensors").unlink()
    model.save_pretrained(gemma, max_shard_size="8KB")
    shards = sorted(path.name for path in gemma.glob("*.safetensors"))
    assert len(shards) > 1
    listing = "".join(f"{file_sha256(gemma / name)}  {name}\n" for name in shards)
    assert _load(gemma, tmp_path).info.revision == hashlib.sha256(listing.encode()).hexdigest()


def test_a_model_is_described_without_its_weights(gemma, tmp_path):
    whole = _load(gemma, tmp_path)
    (gemma / "model.safetensors").unlink()
    source = ModelSource(kind=ModelKind.FOLDER, location=str(gemma))
    facts = describe_model(source, cache_dir=tmp_path)
    assert facts.n_parameters == sum(p.numel() for p in whole.model.parameters())
    assert (facts.n_layers, facts.d_model, facts.vocab_size) == (2, 16, N_GEMMA)


def test_a_gguf_file_is_converted_once(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", seed=0)
    first = _load(path, tmp_path, kind=ModelKind.GGUF)
    assert first.info.architecture == "LlamaForCausalLM"
    (folder,) = (tmp_path / "cache" / "models").glob("gguf-*")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = _load(path.rename(tmp_path / "renamed.gguf"), tmp_path, kind=ModelKind.GGUF)
    assert again.info == first.info
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    write_gguf(tmp_path / "renamed.gguf", seed=1)
    other = _load(tmp_path / "renamed.gguf", tmp_path, kind=ModelKind.GGUF)
    assert other.info.revision != first.info.revision


def test_a_hub_model_is_loaded_at_its_commit(hub, gemma, tmp_path):
    hub.repositories[NAME] = gemma
    loaded = _load(NAME, tmp_path, kind=ModelKind.HUB)
    assert loaded.info.revision == COMMIT
    assert loaded.info.architecture == "Gemma2ForCausalLM"
    local = _load(gemma, tmp_path).model.state_dict()
    assert all(torch.equal(local[key], value) for key, value in loaded.model.state_dict().items())


def test_a_hub_model_is_loaded_again_without_a_network(hub, gemma, tmp_path, monkeypatch):
    hub.repositories[NAME] = gemma
    first = _load(NAME, tmp_path, kind=ModelKind.HUB)
    point_to(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub-cache")
    assert _load(NAME, tmp_path, kind=ModelKind.HUB).info == first.info
    assert _load(NAME, tmp_path, kind=ModelKind.HUB, revision=COMMIT).info == first.info


def test_a_known_commit_asks_the_hub_for_nothing(hub, gemma, tmp_path):
    hub.repositories[NAME] = gemma
    _load(NAME, tmp_path, kind=ModelKind.HUB)
    hub.requests.clear()
    _load(NAME, tmp_path, kind=ModelKind.HUB, revision=COMMIT)
    assert [request for request in hub.requests if request.endswith(".safetensors")] == []


def test_an_unknown_hub_name_says_so(hub, tmp_path):
    with pytest.raises(ModelMissing, match="no model tiny/gmema") as caught:
        _load("tiny/gmema", tmp_path, kind=ModelKind.HUB)
    assert "spelling" in caught.value.hint


def test_an_unknown_revision_says_so(hub, gemma, tmp_path):
    hub.repositories[NAME] = gemma
    with pytest.raises(ModelMissing, match="no such revision"):
        _load(NAME, tmp_path, kind=ModelKind.HUB, revision="nope")


def test_a_gated_model_tells_how_to_get_in(hub, gemma, tmp_path):
    hub.repositories[NAME] = gemma
    hub.gated.add(NAME)
    with pytest.raises(ModelMissing, match="gated") as caught:
        _load(NAME, tmp_path, kind=ModelKind.HUB)
    assert "hf auth login" in caught.value.hint


def test_no_network_says_so_quickly(monkeypatch, tmp_path):
    point_to(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub-cache")
    with pytest.raises(DownloadFailed, match="could not be reached"):
        _load(NAME, tmp_path, kind=ModelKind.HUB)


def test_a_broken_hub_says_so(hub, tmp_path):
    hub.broken = True
    with pytest.raises(DownloadFailed, match="answered 503"):
        _load(NAME, tmp_path, kind=ModelKind.HUB)


@pytest.mark.parametrize("name", ["a/b/c", "not a name", "../up"])
def test_a_malformed_hub_name_is_invalid(name, tmp_path):
    with pytest.raises(Invalid, match="no name of a hub repository"):
        _load(name, tmp_path, kind=ModelKind.HUB)


def test_a_folder_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(ModelMissing, match="no folder"):
        _load(tmp_path / "nowhere", tmp_path)


def test_a_folder_without_configuration_is_missing(tmp_path):
    with pytest.raises(ModelMissing, match=r"no config\.json"):
        _load(tmp_path, tmp_path)


def test_a_folder_without_weights_is_missing(gemma, tmp_path):
    (gemma / "model.safetensors").unlink()
    with pytest.raises(ModelMissing):
        _load(gemma, tmp_path)


def test_a_folder_without_a_tokenizer_is_missing(gemma, tmp_path):
    for path in gemma.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelMissing, match="tokenizer"):
        _load(gemma, tmp_path)


def test_broken_weights_are_not_blamed_on_the_hub(gemma, tmp_path):
    (gemma / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises((ModelMissing, Invalid), match="gemma"):
        _load(gemma, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model_type": "bert", "architectures": ["BertModel"]}, id="not_causal"),
        pytest.param({"model_type": "never-heard-of"}, id="unknown"),
        pytest.param({"model_type": "t5"}, id="encoder_and_decoder"),
    ],
)
def test_another_kind_of_model_is_invalid(change, gemma, tmp_path):
    config = json.loads((gemma / "config.json").read_text())
    (gemma / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(Invalid):
        _load(gemma, tmp_path)


def test_a_file_that_is_no_gguf_is_invalid(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"nothing")
    with pytest.raises(Invalid, match="not a GGUF"):
        _load(path, tmp_path, kind=ModelKind.GGUF)
    with pytest.raises(ModelMissing, match="no GGUF file"):
        _load(tmp_path / "y.gguf", tmp_path, kind=ModelKind.GGUF)


@pytest.mark.parametrize("device", ["cuda", "mps", "tpu", "cuda:x", "meta"])
def test_a_device_that_is_not_there_is_invalid(device, gemma, tmp_path):
    with pytest.raises(Invalid):
        _load(gemma, tmp_path, device=device)


def test_auto_finds_a_device(gemma, tmp_path):
    assert _load(gemma, tmp_path, device="auto").device.type in {"cpu", "cuda", "mps"}


def test_a_model_that_cannot_fit_is_refused_before_loading(gemma, tmp_path):
    config = json.loads((gemma / "config.json").read_text())
    config |= {"hidden_size": 1 << 17, "intermediate_size": 1 << 20}
    (gemma / "config.json").write_text(json.dumps(config))
    with pytest.raises(OutOfMemory, match="GB are free"):
        _load(gemma, tmp_path)


def test_a_llama_without_bos_starts_with_eos(tmp_path):
    folder = save_folder(tmp_path / "llama", tiny_llama(dtype=torch.float32, vocab_size=259))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["bos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "EOS" in _load(folder, tmp_path).info.bos_rule
