"""Low-rank adapters inside a model."""

import math

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from core.domain.alignment import LoraSpec
from core.errors import Invalid


def add_adapters(model: PreTrainedModel, spec: LoraSpec, *, seed: int) -> PeftModel:
    """Adapters in the named linear layers; they alone are trainable, in at least float32.

    B is 0 at the start, so the adapted model is the model; A is drawn from ``seed`` alone.

    Raises:
        Invalid: the model has no layer of these names.
    """
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # annotated int, used as a factor
        lora_dropout=spec.dropout,
        target_modules=list(spec.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise Invalid(
            f"{type(model).__name__} has none of the layers {', '.join(spec.target_modules)}.",
            hint="Name linear layers of this model, such as q_proj and v_proj.",
        ) from error
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(adapted.named_parameters()):
        if "lora_A" in name:
            start = torch.empty(parameter.shape, dtype=torch.float32)
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(start)
    return adapted
