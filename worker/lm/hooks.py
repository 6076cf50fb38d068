"""Hook points of a transformers model: which module to watch, and on which side.

``resid_pre`` and ``resid_post`` are the input and output of a decoder layer in every family.
``attn_out`` and ``mlp_out`` are what attention and MLP *add* to the residual stream, so after
the post-norms of Gemma-2 and its like, by TransformerLens's definitions. ``resid_mid`` exists
where attention comes before the MLP, not beside it. Families that are not listed here have
``resid_pre`` and ``resid_post`` only: a module's name does not tell what it adds.
"""

from dataclasses import dataclass
from enum import StrEnum

from torch import nn
from transformers import PreTrainedModel

from core.domain.hook import HookKind, HookName
from core.errors import HookUnknown, Invalid


class Side(StrEnum):
    """Whether a hook point is what enters its module or what leaves it."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a hook point is read: a module and a side of it."""

    module: nn.Module
    side: Side


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """Names of a layer's modules that hold the inner hook points.

    Attributes:
        attn_out: module whose output attention adds.
        mlp_out: module whose output the MLP adds.
        resid_mid: module whose input is the stream between the two; none where they run in
            parallel.
    """

    attn_out: str
    mlp_out: str
    resid_mid: str | None


_LLAMA = _Anatomy("self_attn", "mlp", "post_attention_layernorm")
_GEMMA2 = _Anatomy(
    "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"
)
_OLMO2 = _Anatomy("post_attention_layernorm", "post_feedforward_layernorm", "mlp")
_GPT2 = _Anatomy("attn", "mlp", "ln_2")
_PARALLEL = _Anatomy("self_attn", "mlp", None)

_ANATOMY: dict[str, _Anatomy] = {
    **dict.fromkeys(("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma"), _LLAMA),
    **dict.fromkeys(("phi3", "olmo", "smollm3", "starcoder2"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma3"), _GEMMA2),
    **dict.fromkeys(("olmo2", "olmo3"), _OLMO2),
    **dict.fromkeys(("gpt2", "gpt_neo"), _GPT2),
    **dict.fromkeys(("phi", "cohere"), _PARALLEL),
    "gptj": _Anatomy("attn", "mlp", None),
}
_LAYER_LISTS = ("layers", "h", "blocks", "block")


def decoder(model: PreTrainedModel) -> nn.Module:
    """The stack of layers below the language-model head."""
    module: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return module


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers, first to last.

    Raises:
        Invalid: the architecture keeps them in no place that is known.
    """
    stack = decoder(model)
    for name in _LAYER_LISTS:
        found = getattr(stack, name, None)
        if isinstance(found, nn.ModuleList) and len(found) > 0:
            return found
    raise Invalid(
        f"{type(model).__name__} has no list of decoder layers that Sparsight can find.",
        hint="Use a decoder-only language model, such as Gemma, Llama, Qwen, GPT-2 or Pythia.",
    )


def available_hooks(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of all hook points of a model, from the embedding up."""
    kinds = _kinds(model)
    names = [str(HookName(layer=0, kind=HookKind.EMBED))]
    for layer in range(len(layers(model))):
        names += [str(HookName(layer=layer, kind=kind)) for kind in kinds]
    return tuple(names)


def find_tap(model: PreTrainedModel, hook_name: str) -> Tap:
    """The module and side of a hook point.

    Raises:
        HookUnknown: the model has no such hook point; the message lists what it has.
    """
    name = HookName.parse(hook_name)
    if name.kind is HookKind.EMBED:
        return Tap(model.get_input_embeddings(), Side.OUTPUT)
    stack = layers(model)
    if name.layer >= len(stack) or name.kind not in _kinds(model):
        raise _unknown(model, hook_name)
    return _layer_tap(model, stack[name.layer], name.kind)


def _layer_tap(model: PreTrainedModel, layer: nn.Module, kind: HookKind) -> Tap:
    if kind is HookKind.RESID_PRE:
        return Tap(layer, Side.INPUT)
    if kind is HookKind.RESID_POST:
        return Tap(layer, Side.OUTPUT)
    anatomy = _anatomy(model)
    if anatomy is None:
        raise _unknown(model, str(HookName(layer=0, kind=kind)))
    match kind:
        case HookKind.ATTN_OUT:
            return Tap(layer.get_submodule(anatomy.attn_out), Side.OUTPUT)
        case HookKind.MLP_OUT:
            return Tap(layer.get_submodule(anatomy.mlp_out), Side.OUTPUT)
        case _:
            return Tap(layer.get_submodule(anatomy.resid_mid or ""), Side.INPUT)


def _kinds(model: PreTrainedModel) -> tuple[HookKind, ...]:
    anatomy = _anatomy(model)
    if anatomy is None:
        return (HookKind.RESID_PRE, HookKind.RESID_POST)
    mid = () if anatomy.resid_mid is None else (HookKind.RESID_MID,)
    return (HookKind.RESID_PRE, HookKind.ATTN_OUT, *mid, HookKind.MLP_OUT, HookKind.RESID_POST)


def _anatomy(model: PreTrainedModel) -> _Anatomy | None:
    config = model.config.get_text_config()
    if config.model_type == "gpt_neox":
        mid = None if config.use_parallel_residual else "post_attention_layernorm"
        return _Anatomy("attention", "mlp", mid)
    return _ANATOMY.get(config.model_type)


def _unknown(model: PreTrainedModel, hook_name: str) -> HookUnknown:
    last = len(layers(model)) - 1
    kinds = ", ".join(kind.value for kind in _kinds(model))
    return HookUnknown(
        f"{type(model).__name__} has no hook point {hook_name}.",
        hint=f"It has hook_embed and blocks.<layer>.<part>, layer 0 to {last}, part being {kinds}.",
    )
