"""Reading and replacing the residual stream of a causal language model while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.errors import HookUnknown

_SUFFIX = ".hook_resid_post"
_PREFIX = "blocks."


class _Stop(Exception):  # noqa: N818 - ends a forward pass, nothing went wrong
    pass


def layer_of(hook_name: str) -> int:
    """Layer after whose block the residual stream is read.

    >>> layer_of("blocks.15.hook_resid_post")
    15

    Raises:
        HookUnknown: not of this form.
    """
    number = hook_name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    if f"{_PREFIX}{number}{_SUFFIX}" != hook_name or not number.isdigit():
        raise HookUnknown(
            f"SAEs are trained on blocks.<layer>.hook_resid_post, not on {hook_name!r}."
        )
    return int(number)


def decoder(model: PreTrainedModel) -> nn.Module:
    """The stack of layers below the language-model head."""
    module: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return module


def block(model: PreTrainedModel, hook_name: str) -> nn.Module:
    """The decoder layer whose output is the hook point.

    Raises:
        HookUnknown: the model has no such layer.
    """
    layers = cast(nn.ModuleList, decoder(model).layers)
    layer = layer_of(hook_name)
    if layer >= len(layers):
        raise HookUnknown(f"The model has {len(layers)} layers; {hook_name} does not exist.")
    return layers[layer]


@torch.inference_mode()
def capture_residuals(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    *,
    hook_names: Sequence[str],
) -> dict[str, Float[Tensor, "batch pos d_in"]]:
    """The residual stream at each hook point; the pass ends after the deepest one."""
    found: dict[str, Tensor] = {}
    deepest = max(hook_names, key=layer_of)

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output
            if name == deepest:
                raise _Stop

        return hook

    handles = [block(model, name).register_forward_hook(keep(name)) for name in hook_names]
    try:
        decoder(model)(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def replaced_residual(
    model: PreTrainedModel,
    hook_name: str,
    *,
    where: Bool[Tensor, "batch pos"],
    replace: Callable[[Float[Tensor, "token d_in"]], Float[Tensor, "token d_in"]],
) -> Iterator[None]:
    """Inside, the residual stream at the positions ``where`` is what ``replace`` makes of it."""

    def hook(
        _module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...]:
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[where] = replace(stream[where].float()).to(stream.dtype)
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = block(model, hook_name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
