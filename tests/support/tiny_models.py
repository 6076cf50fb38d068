"""Random two-layer language models, built from a configuration, small enough for any test."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from core.domain.model import ModelInfo
from tests.support.tiny_tokenizer import tiny_tokenizer
from worker.lm.load import LoadedModel

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


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "ministral": {},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "phi3": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "smollm3": {},
    "starcoder2": {},
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["global"], 3]]},
    "phi": {},
    "cohere": {"layer_norm_eps": 1e-5},
    "gptj": {"rotary_dim": 4},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt_neox-sequential": {"use_parallel_residual": False},
    "opt": {"word_embed_proj_dim": 16, "ffn_dim": 32},
}
"""Model types with what their configuration needs besides the common sizes."""


def tiny_family(
    family: str, *, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any
) -> PreTrainedModel:
    """A model of three layers and width 16 of one of FAMILIES."""
    settings = {**SMALL, "num_hidden_layers": 3, "max_position_embeddings": 64}
    settings |= FAMILIES[family] | changes
    config = AutoConfig.for_model(family.partition("-")[0], **settings)
    return randomise(AutoModelForCausalLM.from_config(config), seed=seed, spread=0.3, dtype=dtype)


def as_loaded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
) -> LoadedModel:
    """A model made in a test, as load_model would give it."""
    config = model.config.get_text_config()
    return LoadedModel(
        model=model,
        tokenizer=tiny_tokenizer() if tokenizer is None else tokenizer,
        device=torch.device("cpu"),
        info=ModelInfo(
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            vocab_size=config.vocab_size,
            context_limit=64,
            architecture=type(model).__name__,
            revision="made in a test",
            bos_rule="Each context starts with the BOS token <bos>.",
        ),
    )


def save_folder(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
) -> Path:
    """A transformers folder with weights, configuration and tokenizer."""
    model.save_pretrained(folder)
    (tiny_tokenizer() if tokenizer is None else tokenizer).save_pretrained(folder)
    return folder
