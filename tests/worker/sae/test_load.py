"""SAEs from every format, and what is said when one cannot be read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.sae import SaeKind, SaeSource
from core.errors import DownloadFailed, HookUnknown, Invalid, ModelMissing, SaeMismatch
from tests.support.fake_hub import FakeHub, fake_hub, point_to
from tests.support.tiny_models import as_loaded, tiny_gemma2
from tests.support.tiny_saes import D_IN, D_SAE, HOOK, random_sae_lens, write_params_npz
from worker.packages import file_sha256
from worker.sae.load import check_fits, load_sae, tensors_sha256
from worker.sae.model import SparseAutoencoder


def _load(location: Path | str, kind: SaeKind = SaeKind.FOLDER, **names: Any) -> SparseAutoencoder:
    source = SaeSource(kind=kind, location=str(location), **names)
    cache = Path(location).parent if Path(location).is_absolute() else Path("/nonexistent")
    return load_sae(source, device="cpu", cache_dir=cache / "cache")


def _change(folder: Path, **settings: Any) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def _without(folder: Path, name: str) -> None:
    path = folder / "sae_weights.safetensors"
    tensors = load_file(path)
    save_file({key: value for key, value in tensors.items() if key != name}, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sae"
    random_sae_lens("jumprelu").save_model(path)
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path / "hub-cache") as running:
        yield running


def test_a_folder_tells_all_about_itself(folder):
    info = _load(folder).info
    assert (info.d_in, info.d_sae, info.layer, info.hook_name) == (D_IN, D_SAE, 1, HOOK)
    assert (info.architecture, info.normalize_activations) == ("jumprelu", "none")
    assert info.revision == file_sha256(folder / "sae_weights.safetensors")


def test_the_hash_is_remembered_until_the_file_changes(folder):
    weights = folder / "sae_weights.safetensors"
    first = _load(folder).info.revision
    times = weights.stat()
    _without(folder, "threshold")
    random_sae_lens("jumprelu", seed=1).save_model(folder)
    assert _load(folder).info.revision == file_sha256(weights) != first
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert _load(folder).info.revision == first  # same path, size and time: not read again


def test_the_record_beside_the_weights_is_read(folder):
    record = {
        "held_out": {"l0": 50.5, "explained_variance": 0.8, "dead_share": 0.1, "n_tokens": 3},
        "cross_entropy_nats": {"recovered": 0.97},
        "seed": 1,
    }
    (folder / "record.json").write_text(json.dumps(record))
    assert _load(folder).record == {
        "l0": 50.5,
        "explained_variance": 0.8,
        "dead_share": 0.1,
        "ce_recovered": 0.97,
    }


def test_an_old_configuration_is_upgraded_as_sae_lens_does(folder):
    from sae_lens import SAE

    (folder / "cfg.json").write_text(
        json.dumps(
            {"d_in": D_IN, "d_sae": D_SAE, "hook_point": HOOK, "hook_point_layer": 1}
            | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "dtype": "float32"}
            | {"normalize_activations": False}
        )
    )
    _without(folder, "threshold")
    ours, theirs = _load(folder), SAE.load_from_disk(folder)
    x = torch.randn((9, D_IN), generator=torch.Generator().manual_seed(0))
    assert ours.apply_b_dec_to_input
    assert ours.info.architecture == "topk"
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(x), theirs.encode(x))


def test_a_given_hook_point_replaces_the_one_in_the_files(folder):
    assert _load(folder, hook_name="blocks.0.hook_mlp_out").info.hook_name == (
        "blocks.0.hook_mlp_out"
    )


def test_weights_scaled_on_average_are_refused_without_their_factor(folder):
    _change(folder, normalize_activations="expected_average_only_in")
    with pytest.raises(Invalid, match="factor is not stored") as caught:
        _load(folder)
    assert "fold_activation_norm_scaling_factor" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "transcoder"}, "architecture 'transcoder'"),
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        ({"architecture": "topk"}, "k = None"),
        ({"architecture": "topk", "k": 49}, "k = 49"),
        ({"architecture": "gated"}, "no tensor b_gate"),
        ({"reshape_activations": "hook_z"}, "single attention heads"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
    ],
)
def test_what_cannot_be_read_is_said(settings, words, folder):
    _change(folder, **settings)
    with pytest.raises(Invalid, match=words):
        _load(folder)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
def test_a_missing_tensor_is_named(name, folder):
    _without(folder, name)
    with pytest.raises(Invalid, match=f"no tensor {name}"):
        _load(folder)


def test_a_tensor_of_the_wrong_shape_is_named(folder):
    path = folder / "sae_weights.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "W_dec": tensors["W_dec"][:-1].contiguous()}, path)
    with pytest.raises(Invalid, match=r"W_dec must be \[48, 16\], but is \[47, 16\]"):
        _load(folder)
    save_file({**tensors, "threshold": torch.zeros(3)}, path)
    with pytest.raises(Invalid, match="threshold has 3 entries"):
        _load(folder)
    save_file({**tensors, "b_enc": torch.zeros(D_SAE, dtype=torch.long)}, path)
    with pytest.raises(Invalid, match="b_enc is int64"):
        _load(folder)


def test_a_hook_point_that_cannot_be_read_is_refused(folder):
    _change(folder, metadata={"sae_lens_version": "6.0.0", "hook_name": "blocks.1.attn.hook_z"})
    with pytest.raises(HookUnknown, match="hook_z"):
        _load(folder)
    _change(folder, metadata={"sae_lens_version": "6.0.0"})
    with pytest.raises(Invalid, match="at which hook point"):
        _load(folder)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_or_broken_file_is_named(name, folder):
    (folder / name).write_bytes(b"\xff not this")
    with pytest.raises(Invalid, match=name):
        _load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelMissing, match=name):
        _load(folder)


def test_a_folder_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(ModelMissing, match="nowhere"):
        _load(tmp_path / "nowhere")


def test_a_path_of_ours_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelMissing, match=r"no cfg\.json"):
        _load("worker/sae")


def test_params_npz_is_found_by_file_or_folder_and_hashed(tmp_path):
    path = tmp_path / "layer_12" / "width_16k" / "average_l0_82" / "params.npz"
    write_params_npz(path)
    by_file, by_folder = _load(path, SaeKind.NPZ), _load(path.parent, SaeKind.NPZ)
    assert by_file.info == by_folder.info
    assert by_file.info.hook_name == "blocks.12.hook_resid_post"
    assert by_file.info.layer == 12
    assert by_file.info.revision == file_sha256(path)
    assert not by_file.apply_b_dec_to_input


def test_params_npz_without_a_layer_in_its_path_needs_a_hook_point(tmp_path):
    write_params_npz(tmp_path / "params.npz")
    with pytest.raises(Invalid, match="hook point"):
        _load(tmp_path, SaeKind.NPZ)
    assert _load(tmp_path, SaeKind.NPZ, hook_name=HOOK).info.hook_name == HOOK


def test_params_npz_with_other_keys_or_content_is_refused(tmp_path):
    path = tmp_path / "params.npz"
    np.savez(path, W_enc=np.zeros((2, 3)), b_enc=np.zeros(3))
    with pytest.raises(Invalid, match=r"lacks W_dec, b_dec, threshold.*has W_enc, b_enc"):
        _load(path, SaeKind.NPZ, hook_name=HOOK)
    np.savez(path, W_enc="a", W_dec="few", b_enc="words", b_dec="of", threshold="text")
    with pytest.raises(Invalid, match=str(path)):
        _load(path, SaeKind.NPZ, hook_name=HOOK)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(Invalid, match=r"not an \.npz"):
        _load(path, SaeKind.NPZ, hook_name=HOOK)
    np.savez(path, W_enc=np.array([object()], dtype=object))
    with pytest.raises(Invalid, match=r"not an \.npz"):
        _load(path, SaeKind.NPZ, hook_name=HOOK)
    with pytest.raises(ModelMissing):
        _load(tmp_path / "other.npz", SaeKind.NPZ)


def test_a_gemma_scope_release_comes_from_the_hub(hub, tmp_path):
    repository = tmp_path / "repository"
    arrays = write_params_npz(repository / "layer_12/width_16k/average_l0_82/params.npz")
    hub.repositories["google/gemma-scope-2b-pt-res"] = repository
    sae = _load(
        "gemma-scope-2b-pt-res-canonical", SaeKind.HUB, release_id="layer_12/width_16k/canonical"
    )
    assert sae.info.hook_name == "blocks.12.hook_resid_post"
    assert not sae.apply_b_dec_to_input
    np.testing.assert_array_equal(sae.W_enc.numpy(), arrays["W_enc"])
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert sae.info.revision == tensors_sha256(tensors)


def test_a_repository_that_is_no_release_holds_sae_lens_folders(hub, folder, tmp_path):
    hub.repositories["someone/saes"] = tmp_path
    sae = _load("someone/saes", SaeKind.HUB, release_id="sae")
    assert torch.equal(sae.W_enc, _load(folder).W_enc)


def test_a_release_with_a_known_factor_is_folded_as_sae_lens_does(hub, tmp_path):
    from sae_lens import SAE
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    release, release_id = next(
        (name, next(iter(entry.norm_scaling_factor)))
        for name, entry in known.items()
        if entry.norm_scaling_factor and entry.conversion_func is None
    )
    entry = known[release]
    scaled = random_sae_lens("standard", normalize_activations="expected_average_only_in")
    scaled.save_model(tmp_path / entry.saes_map[release_id])
    hub.repositories[entry.repo_id] = tmp_path
    ours = _load(release, SaeKind.HUB, release_id=release_id)
    theirs = SAE.from_pretrained(release, release_id)
    x = torch.randn((9, D_IN), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(x), theirs.encode(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.reconstruct(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_unknown_releases_and_ids_name_near_ones():
    with pytest.raises(Invalid, match="no release") as caught:
        _load("gemma-scope-2b-pt-res-canonicle", SaeKind.HUB, release_id="x")
    assert "gemma-scope-2b-pt-res-canonical" in caught.value.hint
    with pytest.raises(Invalid, match="has no SAE") as caught:
        _load("gemma-scope-2b-pt-res-canonical", SaeKind.HUB, release_id="layer_12/width_16k/canon")
    assert "layer_12/width_16k/canonical" in caught.value.hint
    with pytest.raises(Invalid, match="needs the id"):
        _load("gemma-scope-2b-pt-res-canonical", SaeKind.HUB)


def test_a_repository_that_the_hub_lacks_is_missing(hub):
    with pytest.raises(ModelMissing, match="someone/saes"):
        _load("someone/saes", SaeKind.HUB, release_id="sae")


def test_a_missing_folder_of_a_repository_is_missing(hub, tmp_path):
    hub.repositories["someone/saes"] = tmp_path
    with pytest.raises(ModelMissing, match="lacks a file"):
        _load("someone/saes", SaeKind.HUB, release_id="nowhere")


def test_a_hub_sae_is_loaded_again_without_a_network(hub, folder, tmp_path, monkeypatch):
    hub.repositories["someone/saes"] = tmp_path
    first = _load("someone/saes", SaeKind.HUB, release_id="sae")
    point_to(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub-cache")
    again = _load("someone/saes", SaeKind.HUB, release_id="sae")
    assert again.info == first.info


def test_no_network_is_a_failed_download(monkeypatch, tmp_path):
    point_to(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(DownloadFailed, match="could not be reached"):
        _load("someone/saes", SaeKind.HUB, release_id="sae")


def test_a_fitting_sae_passes(folder):
    check_fits(_load(folder), as_loaded(tiny_gemma2()))


def test_another_width_is_refused_with_both_numbers(folder):
    with pytest.raises(SaeMismatch, match=r"width 16; the model's have width 32") as caught:
        check_fits(_load(folder), as_loaded(tiny_gemma2(hidden_size=32)))
    assert caught.value.hint


def test_a_layer_that_the_model_lacks_is_refused(folder):
    deep = _load(folder, hook_name="blocks.2.hook_resid_post")
    with pytest.raises(SaeMismatch, match=r"layer 2 .* has 2 layers, 0 to 1"):
        check_fits(deep, as_loaded(tiny_gemma2()))
