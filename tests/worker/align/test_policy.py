"""The model taken apart: log-probabilities, hook points and the head of every family."""

import pytest
import torch
from transformers import Gemma2ForCausalLM

from core.errors import HookUnknown, Invalid
from tests.support.tiny_models import tiny_gemma2, tiny_llama
from worker.align.data.pairs import TokenBatch
from worker.align.logps import response_logps
from worker.align.policy import Policy, check_head, read_batch, unembedding_of

F64 = torch.float64
IDS = torch.tensor([[1, 6, 7, 8, 9], [1, 5, 4, 3, 2]])
RESPONSE = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
BATCH = TokenBatch(
    input_ids=IDS,
    attention_mask=torch.ones_like(IDS),
    position_ids=torch.arange(5).expand(2, 5),
    labels=IDS.masked_fill(~RESPONSE, -100),
    response_mask=RESPONSE,
)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma2])
def test_log_probabilities_are_those_of_the_model_s_own_logits(make):
    model = make()
    check_head(model)
    reading = read_batch(Policy(model, compute=F64), BATCH)
    logits = model(input_ids=IDS, attention_mask=BATCH.attention_mask).logits
    plain = response_logps(logits=logits, targets=BATCH.targets)
    torch.testing.assert_close(reading.logps.summed, plain.summed, rtol=0, atol=1e-10)


def test_gemma_s_cap_is_read_from_its_configuration():
    assert unembedding_of(tiny_gemma2()).softcap == 3.0
    assert unembedding_of(tiny_llama()).softcap is None


def test_the_last_layer_s_stream_is_taken_before_the_final_norm():
    model = tiny_llama()
    reading = read_batch(Policy(model, compute=F64), BATCH, hook_names=["blocks.1.hook_resid_post"])
    normed = model.model.norm(reading.taps[0])
    torch.testing.assert_close(normed, reading.hidden, rtol=0, atol=1e-12)


@pytest.mark.parametrize("hook_name", ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"])
def test_a_stream_keeps_its_gradient_where_layers_are_recomputed(hook_name):
    def gradients(recompute: bool):
        model = tiny_llama()
        model.train()
        model.requires_grad_(True)
        if recompute:
            model.activation_checkpointing_enable({"use_reentrant": False})
        policy = Policy(model, compute=F64)
        reading = read_batch(policy, BATCH, hook_names=[hook_name])
        loss = (reading.taps[0] ** 2).sum() + reading.logps.summed.sum()
        return torch.autograd.grad(loss, list(model.parameters()))

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_a_hook_point_that_is_not_there_is_named():
    with pytest.raises(HookUnknown, match="nowhere"):
        read_batch(Policy(tiny_llama(), compute=F64), BATCH, hook_names=["blocks.1.hook_nowhere"])


class LoudGemma(Gemma2ForCausalLM):
    """Doubles its logits, which nothing in its configuration tells."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output


def test_a_head_that_does_something_else_is_refused():
    model = tiny_gemma2()
    check_head(model)
    model.__class__ = LoudGemma
    with pytest.raises(Invalid, match="not its head"):
        check_head(model)


def test_bfloat16_passes_start_from_float32_weights_and_learn_them():
    model = tiny_llama(dtype=torch.float32)
    model.requires_grad_(True)
    reading = read_batch(
        Policy(model, compute=torch.bfloat16), BATCH, hook_names=["blocks.0.hook_resid_post"]
    )
    assert reading.logps.summed.dtype == torch.float32
    assert reading.taps[0].dtype == torch.float32
    reading.logps.summed.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.dtype == torch.float32 for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)
