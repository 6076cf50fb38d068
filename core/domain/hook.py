"""Names of hook points, as TransformerLens and sae-lens write them."""

import re
from dataclasses import dataclass
from enum import StrEnum

from core.errors import HookUnknown


class HookKind(StrEnum):
    """Which part of a layer a hook point reads."""

    EMBED = "hook_embed"  # the token embedding, before the first layer
    RESID_PRE = "hook_resid_pre"  # what enters a layer
    RESID_MID = "hook_resid_mid"  # between attention and MLP
    RESID_POST = "hook_resid_post"  # what leaves a layer
    ATTN_OUT = "hook_attn_out"  # what attention adds to the residual stream
    MLP_OUT = "hook_mlp_out"  # what the MLP adds to the residual stream


@dataclass(frozen=True, slots=True)
class HookName:
    """A hook point: a layer and a part of it; the embedding counts as layer 0.

    >>> HookName.parse("blocks.12.hook_resid_post")
    HookName(layer=12, kind=<HookKind.RESID_POST: 'hook_resid_post'>)
    >>> str(HookName(layer=12, kind=HookKind.MLP_OUT))
    'blocks.12.hook_mlp_out'
    """

    layer: int
    kind: HookKind

    @classmethod
    def parse(cls, text: str) -> "HookName":
        """The hook point that a name means.

        Raises:
            HookUnknown: the name is none that Sparsight can read.
        """
        if text == HookKind.EMBED:
            return cls(layer=0, kind=HookKind.EMBED)
        match = re.fullmatch(r"blocks\.(\d+)\.(\w+)", text)
        parts = {kind.value for kind in HookKind if kind is not HookKind.EMBED}
        if match is None or match[2] not in parts:
            raise HookUnknown(
                f"{text!r} is not a hook point that Sparsight reads.",
                hint=f"It reads hook_embed and blocks.<layer>.<part>, part being "
                f"{', '.join(sorted(parts))}.",
            )
        return cls(layer=int(match[1]), kind=HookKind(match[2]))

    def __str__(self) -> str:
        if self.kind is HookKind.EMBED:
            return self.kind.value
        return f"blocks.{self.layer}.{self.kind.value}"


def layer_of(hook_name: str) -> int:
    """Layer of a hook point's name.

    >>> layer_of("blocks.15.hook_resid_post")
    15

    Raises:
        HookUnknown: the name is none that Sparsight can read.
    """
    return HookName.parse(hook_name).layer
