"""Reading and replacing the residual stream of a causal language model while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from core.errors import HookUnknown
from worker.lm.hooks import Side, Tap, decoder, find_tap
from worker.lm.load import LoadedModel
from worker.memory import memory_errors

_AXES = 3  # batch, pos, d_in


class _Stop(Exception):  # noqa: N818 - ends a forward pass, nothing went wrong
    pass


@torch.inference_mode()
def capture(
    loaded: LoadedModel,
    input_ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    hook_names: Sequence[str],
) -> dict[str, Float[Tensor, "batch pos d_in"]]:
    """What each hook point holds, in the model's number format and on its device.

    All hook points are read in one forward pass, which ends as soon as the last of them is
    reached. ``resid_post`` of the last layer is the stream before the final norm. With right
    padding, real positions do not see the padding; what padded positions hold is meaningless.

    Args:
        loaded: the model.
        input_ids: token ids, padded on the right; moved to the model's device.
        attention_mask: 1 on real tokens, 0 on padding.
        hook_names: at least one, e.g. ``blocks.12.hook_resid_post``.

    Raises:
        HookUnknown: the model has no such hook point.
        OutOfMemory: the batch is too large for the machine.
    """
    taps = {name: find_tap(loaded.model, name) for name in dict.fromkeys(hook_names)}
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        def see(stream: Tensor) -> None:
            if stream.dim() != _AXES:  # Gemma-3n carries several streams at once
                raise HookUnknown(
                    f"{name} of {type(loaded.model).__name__} is no single residual stream.",
                    hint="Use a model of another family.",
                )
            found[name] = stream
            if len(found) == len(taps):
                raise _Stop

        return see

    with ExitStack() as stack, memory_errors("running the model"):
        for name, tap in taps.items():
            stack.callback(_watch(tap, keep(name)).remove)
        _run(loaded, input_ids, attention_mask)
    return {name: found[name] for name in taps}


def _run(
    loaded: LoadedModel,
    input_ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
) -> None:
    with suppress(_Stop):
        decoder(loaded.model)(
            input_ids=input_ids.to(loaded.device),
            attention_mask=attention_mask.to(loaded.device),
            use_cache=False,
        )


def _watch(tap: Tap, see: Callable[[Tensor], None]) -> RemovableHandle:
    """Call ``see`` with the stream whenever it passes the tap."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(args[0] if args else kwargs["hidden_states"])

    def after(_module: nn.Module, _args: object, output: Tensor | tuple[Any, ...]) -> None:
        see(output[0] if isinstance(output, tuple) else output)

    if tap.side is Side.INPUT:
        return tap.module.register_forward_pre_hook(before, with_kwargs=True)
    return tap.module.register_forward_hook(after)


@contextmanager
def replaced(
    model: PreTrainedModel,
    hook_name: str,
    *,
    where: Bool[Tensor, "batch pos"],
    replace: Callable[[Float[Tensor, "token d_in"]], Float[Tensor, "token d_in"]],
) -> Iterator[None]:
    """Inside, the hook point at the positions ``where`` is what ``replace`` makes of it.

    ``replace`` is given float32 rows and its result is rounded to the model's number format.
    """
    tap = find_tap(model, hook_name)

    def changed(stream: Tensor) -> Tensor:
        stream = stream.clone()
        stream[where] = replace(stream[where].float()).to(stream.dtype)
        return stream

    handle = _rewrite(tap, changed)
    try:
        yield
    finally:
        handle.remove()


def _rewrite(tap: Tap, changed: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Put ``changed(stream)`` in the stream's place whenever it passes the tap."""

    def before(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    def after(
        _module: nn.Module, _args: object, output: Tensor | tuple[Any, ...]
    ) -> Tensor | tuple[Any, ...]:
        if isinstance(output, tuple):
            return (changed(output[0]), *output[1:])
        return changed(output)

    if tap.side is Side.INPUT:
        return tap.module.register_forward_pre_hook(before, with_kwargs=True)
    return tap.module.register_forward_hook(after)
