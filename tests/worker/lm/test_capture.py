"""Capture reads the streams that transformers itself reports, family by family."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.errors import HookUnknown
from tests.support.tiny_models import FAMILIES, as_loaded, tiny_family, tiny_gemma2
from worker.lm.capture import capture, replaced
from worker.lm.hooks import available_hooks, decoder, layers

PARALLEL = {"phi", "cohere", "gptj", "gpt_neox"}
FINAL_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _batch(seed: int = 0) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 97, (2, 9), generator=generator)
    return ids, torch.ones_like(ids)


def _hidden_states(model: PreTrainedModel) -> tuple[Float[Tensor, "batch pos d_in"], ...]:
    ids, mask = _batch()
    with torch.no_grad():
        output = model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
    states: tuple[Tensor, ...] = output.hidden_states
    return states


def _final_norm(model: PreTrainedModel) -> nn.Module:
    stack = decoder(model)
    norm: nn.Module = next(getattr(stack, name) for name in FINAL_NORMS if hasattr(stack, name))
    return norm


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_between_layers_are_the_hidden_states_of_transformers(family):
    model = tiny_family(family)
    states = _hidden_states(model)
    found = capture(as_loaded(model), *_batch(), available_hooks(model))
    n_layers = len(layers(model))
    for layer in range(n_layers):
        assert torch.equal(found[f"blocks.{layer}.hook_resid_pre"], states[layer])
    for layer in range(n_layers - 1):
        assert torch.equal(found[f"blocks.{layer}.hook_resid_post"], states[layer + 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_stream_is_the_one_before_the_final_norm(family):
    model = tiny_family(family)
    states = _hidden_states(model)
    last = f"blocks.{len(layers(model)) - 1}.hook_resid_post"
    found = capture(as_loaded(model), *_batch(), [last])[last]
    assert not torch.allclose(found, states[-1])
    with torch.no_grad():
        torch.testing.assert_close(_final_norm(model)(found), states[-1])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in PARALLEL | {"opt"}])
def test_attention_and_mlp_add_up_to_the_stream(family):
    model = tiny_family(family)
    found = capture(as_loaded(model), *_batch(), available_hooks(model))
    for layer in range(len(layers(model))):
        pre, attn, mid, mlp, post = (
            found[f"blocks.{layer}.{part}"]
            for part in (
                "hook_resid_pre",
                "hook_attn_out",
                "hook_resid_mid",
                "hook_mlp_out",
                "hook_resid_post",
            )
        )
        torch.testing.assert_close(pre + attn, mid)
        torch.testing.assert_close(mid + mlp, post)
        assert float(attn.abs().max()) > 0


@pytest.mark.parametrize("family", sorted(PARALLEL))
def test_parallel_attention_and_mlp_add_up_and_have_no_middle(family):
    model = tiny_family(family)
    found = capture(as_loaded(model), *_batch(), available_hooks(model))
    for layer in range(len(layers(model))):
        parts = (f"blocks.{layer}.hook_{part}" for part in ("resid_pre", "attn_out", "mlp_out"))
        total = sum(found[name] for name in parts)
        torch.testing.assert_close(total, found[f"blocks.{layer}.hook_resid_post"])
    with pytest.raises(HookUnknown, match="hook_attn_out, hook_mlp_out"):
        capture(as_loaded(model), *_batch(), ["blocks.0.hook_resid_mid"])


def test_the_embedding_of_gemma_is_scaled():
    model = tiny_gemma2()
    ids, mask = _batch()
    found = capture(as_loaded(model), ids, mask, ["hook_embed"])["hook_embed"]
    weight = model.get_parameter("model.embed_tokens.weight")
    torch.testing.assert_close(found, weight[ids] * 4.0)  # sqrt of the width, 16
    assert torch.equal(found, _hidden_states(model)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_real_positions_do_not_see_the_padding(family):
    model = tiny_family(family)
    ids, mask = _batch()
    padded_ids, padded_mask = ids.clone(), mask.clone()
    padded_ids[0, 5:], padded_mask[0, 5:] = 1, 0
    hooks = ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]
    whole = capture(as_loaded(model), ids, mask, hooks)
    short = capture(as_loaded(model), ids[:1, :5], mask[:1, :5], hooks)
    padded = capture(as_loaded(model), padded_ids, padded_mask, hooks)
    for name in hooks:
        torch.testing.assert_close(padded[name][0, :5], whole[name][0, :5])
        torch.testing.assert_close(padded[name][0, :5], short[name][0])
        torch.testing.assert_close(padded[name][1], whole[name][1])


def test_nothing_runs_after_the_last_hook_point():
    model = tiny_family("llama")
    ran: list[int] = []
    for number, layer in enumerate(layers(model)):
        layer.register_forward_hook(lambda *_args, number=number: ran.append(number))
    capture(as_loaded(model), *_batch(), ["blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"])
    assert ran == [0, 1]


def test_no_hook_stays_behind_even_after_an_error():
    model = tiny_family("llama")
    capture(as_loaded(model), *_batch(), ["blocks.1.hook_resid_post"])
    ids, mask = _batch()
    with pytest.raises(IndexError):
        capture(as_loaded(model), ids + 1000, mask, ["blocks.1.hook_resid_post"])
    assert not any(module._forward_hooks for module in layers(model))


def test_the_same_hook_point_twice_is_read_once():
    model = tiny_family("llama")
    found = capture(as_loaded(model), *_batch(), ["blocks.0.hook_resid_post"] * 2)
    assert list(found) == ["blocks.0.hook_resid_post"]


@pytest.mark.parametrize("name", ["blocks.3.hook_resid_post", "blocks.99.hook_resid_pre"])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(HookUnknown, match=r"layer 0 to 2"):
        capture(as_loaded(tiny_family("llama")), *_batch(), [name])


@pytest.mark.parametrize("name", ["blocks.1.attn.hook_z", "resid_post", "", "blocks.-1.hook_embed"])
def test_a_name_that_is_no_hook_point_is_refused(name):
    with pytest.raises(HookUnknown, match=r"blocks\.<layer>\.<part>"):
        capture(as_loaded(tiny_family("llama")), *_batch(), [name])


@pytest.mark.parametrize("part", ["hook_resid_pre", "hook_resid_mid", "hook_resid_post"])
def test_a_replaced_stream_is_what_later_layers_read(part):
    model = tiny_family("gemma2")
    loaded, (ids, mask) = as_loaded(model), _batch()
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[1, 3] = True
    hook, later = f"blocks.1.{part}", "blocks.2.hook_resid_post"
    clean = capture(loaded, ids, mask, [later])[later]
    with torch.no_grad(), replaced(model, hook, where=where, replace=torch.zeros_like):
        assert torch.equal(capture(loaded, ids, mask, [later])[later][0], clean[0])
        changed = capture(loaded, ids, mask, [later])[later]
    assert torch.equal(changed[1, :3], clean[1, :3])
    assert not torch.allclose(changed[1, 3:], clean[1, 3:])
    torch.testing.assert_close(capture(loaded, ids, mask, [later])[later], clean)


def test_bfloat16_streams_stay_bfloat16():
    model = tiny_family("gemma2", dtype=torch.bfloat16)
    found = capture(as_loaded(model), *_batch(), ["blocks.1.hook_resid_post"])
    assert found["blocks.1.hook_resid_post"].dtype == torch.bfloat16
