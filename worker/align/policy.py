"""A language model as preference losses read it: response log-probabilities and hook points.

Everything that touches weights happens inside ``Policy.forward``, so that data-parallel wrappers
see every use of them. Logits exist only by chunk, inside autograd functions that recompute them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from core.errors import Invalid
from worker.align.data.pairs import TokenBatch
from worker.align.divergence import seq_kl_from_hidden
from worker.align.logps import ResponseLogps, Targets, response_logps_from_hidden
from worker.align.unembedding import Unembedding
from worker.lm.hooks import Side, Tap, decoder, find_tap

_HEAD_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStates:
    """What an online reference gives TDPO: its final hidden states and its head."""

    hidden: Float[Tensor, "batch pos d_in"]
    head: Unembedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one forward pass found.

    Attributes:
        logps: log-probabilities of the response tokens.
        hidden: final hidden states, after the final norm.
        taps: the stream at each hook point, float32 or float64, in the order asked for.
        seq_kl: forward KL to the online reference, where one was given.
    """

    logps: ResponseLogps
    hidden: Float[Tensor, "batch pos d_in"]
    taps: tuple[Float[Tensor, "batch pos d_in"], ...]
    seq_kl: Float[Tensor, " batch"] | None


class Policy(nn.Module):
    """A causal language model with its head taken apart.

    Args:
        model: the model; adapters, if any, are already inside.
        compute: number format of matrix products; float32 and float64 mean the weights' own.
    """

    def __init__(self, model: PreTrainedModel, *, compute: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.compute = compute

    def forward(
        self,
        *,
        input_ids: Int[Tensor, "batch pos"],
        attention_mask: Int[Tensor, "batch pos"],
        position_ids: Int[Tensor, "batch pos"],
        targets: Targets,
        hook_names: Sequence[str] = (),
        reference: ReferenceStates | None = None,
        read: Callable[[Float[Tensor, "batch pos d_in"], Unembedding], Any] | None = None,
    ) -> Reading | Any:
        """Read a batch; with ``read``, what it makes of final hidden states and head instead."""
        with self._autocast(input_ids.device):
            hidden, taps = self._run(input_ids, attention_mask, position_ids, hook_names)
        hidden = hidden.to(self.compute)
        head = unembedding_of(self.model)
        if read is not None:
            return read(hidden, head)
        seq_kl = None
        if reference is not None:
            seq_kl = seq_kl_from_hidden(
                policy_hidden=hidden,
                policy_head=head,
                reference_hidden=reference.hidden,
                reference_head=reference.head,
                mask=targets.mask,
            )
        logps = response_logps_from_hidden(hidden=hidden, unembedding=head, targets=targets)
        return Reading(logps=logps, hidden=hidden, taps=taps, seq_kl=seq_kl)

    def _autocast(self, device: torch.device) -> torch.autocast:
        enabled = self.compute in {torch.bfloat16, torch.float16}
        dtype = self.compute if enabled else None
        return torch.autocast(device.type, dtype=dtype, enabled=enabled)

    def _run(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, names: Sequence[str]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        with _tapped(self.model, names) as found:
            output = decoder(self.model)(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=False,
            )
        exact = torch.float64 if self.compute == torch.float64 else torch.float32
        return output.last_hidden_state, tuple(found[name].to(exact) for name in names)


def read_batch(
    policy: nn.Module,
    tokens: TokenBatch,
    *,
    hook_names: Sequence[str] = (),
    reference: ReferenceStates | None = None,
) -> Reading:
    """One forward pass of a policy, wrapped for parallel training or not, over a batch."""
    reading: Reading = policy(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        position_ids=tokens.position_ids,
        targets=tokens.targets,
        hook_names=tuple(hook_names),
        reference=reference,
    )
    return reading


def unembedding_of(model: PreTrainedModel) -> Unembedding:
    """The head of a model, with the soft cap or scale that its family puts on logits."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise Invalid(
            f"{type(model).__name__} has no linear head that Sparsight can read.",
            hint="Use a causal language model of the transformers library.",
        )
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    return Unembedding(
        weight=head.weight,
        bias=head.bias,
        softcap=getattr(config, "final_logit_softcapping", None),
        scale=float(scale) if scale else 1.0 / float(divisor) if divisor else 1.0,
    )


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose logits are not its head applied to its final hidden states.

    Raises:
        Invalid: the family does something between the two that is not known here.
    """
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None] % model.config.vocab_size
    logits = model(input_ids=ids, use_cache=False).logits[0].float()
    hidden = decoder(model)(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = unembedding_of(model).logits(hidden).float()
    gap = float((logits - ours).abs().max() / logits.abs().max().clamp(min=1.0))
    if gap > _HEAD_TOLERANCE * (1 if hidden.dtype != torch.bfloat16 else 20):
        raise Invalid(
            f"The logits of {type(model).__name__} are not its head applied to its final states.",
            hint="This family does something in between that alignment does not know.",
        )


@contextmanager
def _tapped(model: PreTrainedModel, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, each hook point's stream is kept, once: recomputation in backward is not seen."""
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            stack.callback(_watch(find_tap(model, name), name, found).remove)
        yield found


def _watch(tap: Tap, name: str, found: dict[str, Tensor]) -> Any:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.setdefault(name, args[0] if args else kwargs["hidden_states"])

    def after(_module: nn.Module, _args: object, output: Any) -> None:
        found.setdefault(name, output[0] if isinstance(output, tuple) else output)

    if tap.side is Side.INPUT:
        return tap.module.register_forward_pre_hook(before, with_kwargs=True)
    return tap.module.register_forward_hook(after)
