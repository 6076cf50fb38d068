"""Random two-layer language models, built from a configuration, small enough for any test."""

from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}


def tiny_llama(
    *, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 0.3, **changes: Any
) -> PreTrainedModel:
    """A Llama of 2 layers and width 16."""
    model = LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes}))
    return randomise(model, seed=seed, spread=spread, dtype=dtype)


def tiny_gemma2(
    *, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 0.3, **changes: Any
) -> PreTrainedModel:
    """A Gemma-2 of 2 layers with tied embeddings and soft-capped logits."""
    settings: dict[str, Any] = {
        **SMALL,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 3.0,
        **changes,
    }
    model = Gemma2ForCausalLM(Gemma2Config(**settings))
    return randomise(model, seed=seed, spread=spread, dtype=dtype)


def randomise(
    model: PreTrainedModel, *, seed: int, spread: float, dtype: torch.dtype
) -> PreTrainedModel:
    """Fill every parameter from one generator, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(1 + noise if "norm" in name and noise.dim() == 1 else noise)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.eval()
    return model
