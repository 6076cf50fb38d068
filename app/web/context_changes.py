"""A feature's contexts as the aligned model reads them, and how they changed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from app.web import tokens
from app.web.forms import ContextOptions, Shown
from core.domain.activation import Band, ContextActivations
from core.domain.views import FeaturePage, Vocabulary
from core.domain.views_drift import AlignedContexts, ComparedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextChange(ContextActivations):
    """A context whose numbers are changes, aligned − base; they may be negative."""

    @property
    def peak(self) -> int:
        """Position of the largest change, whatever its sign; the first of equals."""
        return int(np.argmax(np.abs(self.activations)))


def change_of(compared: ComparedContext) -> ContextChange:
    """The change of a context, position by position."""
    base = compared.base
    kept = {f.name: getattr(base, f.name) for f in fields(base)}
    kept["activations"] = compared.aligned.activations - base.activations
    return ContextChange(**kept)


def shown_page(page: FeaturePage, compared: AlignedContexts, show: Shown) -> FeaturePage:
    """The page with its contexts, in their order, as the aligned model reads them or as changes."""
    contexts: Sequence[ContextActivations]
    if show is Shown.ALIGNED:
        contexts = [entry.aligned for entry in compared.contexts]
    else:
        contexts = [change_of(entry) for entry in compared.contexts]
    return replace(page, contexts=tuple(contexts))


def largest_change(page: FeaturePage) -> float:
    """The largest change on any of the page's contexts, whatever its sign."""
    return max((float(np.abs(c.activations).max(initial=0.0)) for c in page.contexts), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawChange:
    """One context in numbers: lines ``token<tab>number``."""

    context_index: int
    text: str


def raw_texts(
    page: FeaturePage, words: Vocabulary, options: ContextOptions
) -> tuple[RawChange, ...]:
    """The contexts that the options ask for as plain numbers, special tokens left out."""
    wanted = [c for c in page.contexts if options.wanted in (None, c.band)]
    if options.wanted is None:
        wanted = [c for c in wanted if c.band is not Band.RANDOM]
    return tuple(
        RawChange(context_index=context.context_index, text=_lines(context, words, options))
        for context in wanted
    )


def _lines(context: ContextActivations, words: Vocabulary, options: ContextOptions) -> str:
    rows = zip(context.token_ids.tolist(), context.activations.tolist(), strict=True)
    sign = "+" if options.show is Shown.CHANGE else ""
    return "\n".join(
        f"{tokens.token_title(words, token_id)}\t{f'{value:{sign}.4g}' if value else '0'}"
        for token_id, value in rows
        if token_id not in words.special_ids and (value or not options.nonzero)
    )
