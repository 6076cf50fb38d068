"""Rows of contexts and of features as templates need them: complete, nothing left to compute."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.web import i18n, tokens
from app.web.context_changes import largest_change
from app.web.forms import WIDTHS, ContextOptions, Scale, Shown
from app.web.tokens import Window
from core.domain.activation import Band, ContextActivations
from core.domain.label import Label
from core.domain.views import FeatureCard, FeaturePage, Vocabulary
from core.domain.views_explain import ExplanationCard

PREVIEW_TOKENS = 26
PREVIEW_LEAD = 22  # characters before the peak, so that it is on the first line also of a phone
PROMOTED_SHOWN = 3
PEAKS_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRow:
    """One context of a feature.

    Attributes:
        peak_text: the activation at the peak, or the change there with its sign.
        anchor: id of the row in the page, for links to it.
        html: the tokens of the window.
        values: activations of the window, comma-separated; empty for 0.
        ids: token ids of the window, comma-separated.
        start: position of the window's first token.
        cut_start, cut_end: whether the context goes on before or after the window.
        scale: activation of the strongest colour.
    """

    anchor: str
    band: Band
    html: tokens.Html
    values: str
    ids: str
    start: int
    cut_start: bool
    cut_end: bool
    peak_label: tokens.Html | None
    peak_value: float
    peak_text: str
    scale: float
    source: str
    document: int
    offset: int
    context_index: int


def context_rows(
    page: FeaturePage,
    vocabulary: Vocabulary,
    options: ContextOptions,
    *,
    base: FeaturePage | None = None,
) -> tuple[ContextRow, ...]:
    """The rows that the options ask for, in band order.

    Args:
        page: the feature with the contexts to show.
        vocabulary: words of its tokens.
        options: which contexts, and how.
        base: the page as the base model reads it, whose windows are kept where they hold the peak.
    """
    wanted = [c for c in page.contexts if options.wanted in (None, c.band)]
    if options.wanted is None:
        wanted = [c for c in wanted if c.band is not Band.RANDOM]
    changes = options.show is Shown.CHANGE
    maximum = largest_change(page) if changes else page.stats.max_activation
    windows = {
        (context.context_index, context.band): tokens.window_around(context, WIDTHS[options.width])
        for context in (base.contexts if base else ())
    }
    return tuple(
        _context_row(
            context,
            vocabulary,
            options,
            maximum=maximum,
            window=windows.get((context.context_index, context.band)),
        )
        for context in wanted
    )


def chosen_rows(
    page: FeaturePage, vocabulary: Vocabulary, indices: Collection[int]
) -> tuple[ContextRow, ...]:
    """The whole contexts of these numbers, each once, in band order."""
    found: dict[int, ContextActivations] = {}
    for context in page.contexts:
        if context.context_index in indices:
            found.setdefault(context.context_index, context)
    options = ContextOptions(width="whole")
    maximum = page.stats.max_activation
    return tuple(
        _context_row(context, vocabulary, options, maximum=maximum) for context in found.values()
    )


def _context_row(
    context: ContextActivations,
    vocabulary: Vocabulary,
    options: ContextOptions,
    *,
    maximum: float,
    window: Window | None = None,
) -> ContextRow:
    if window is None or not window.start <= context.peak < window.stop:
        window = tokens.window_around(context, WIDTHS[options.width])
    peak_value = float(context.activations[context.peak])
    scale = abs(peak_value) if options.scale is Scale.ROW else maximum
    sign = "+" if options.show is Shown.CHANGE and peak_value > 0 else ""
    shown = slice(window.start, window.stop)
    return ContextRow(
        anchor=f"c{context.context_index}",
        band=context.band,
        html=tokens.context_html(vocabulary, context, scale=scale, window=window),
        values=",".join(f"{a:.4g}" if a else "" for a in context.activations[shown].tolist()),
        ids=",".join(map(str, context.token_ids[shown].tolist())),
        start=window.start,
        cut_start=window.start > 0,
        cut_end=window.stop < len(context.token_ids),
        peak_label=_peak_label(context, vocabulary) if peak_value else None,
        peak_value=peak_value,
        peak_text=sign + i18n.number(peak_value),
        scale=scale,
        source=context.source,
        document=context.document,
        offset=context.start,
        context_index=context.context_index,
    )


def _peak_label(context: ContextActivations, vocabulary: Vocabulary) -> tokens.Html:
    return tokens.token_label(vocabulary, int(context.token_ids[context.peak]))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRow:
    """One feature of a list; preview and peak are None for a dead one.

    Attributes:
        explanation: the one that stands for the feature; None without any.
        label: None where people say nothing of it.
    """

    card: FeatureCard
    url: str
    preview: tokens.Html | None
    peak_label: tokens.Html | None
    promoted: tuple[tokens.Html, ...]
    explanation: ExplanationCard | None
    label: Label | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said of the features of a list, by index."""

    explanations: Mapping[int, ExplanationCard]
    labels: Mapping[int, Label]


def feature_rows(
    cards: Sequence[FeatureCard],
    vocabulary: Vocabulary,
    said: Said,
    *,
    base: str,
    suffix: str,
) -> tuple[FeatureRow, ...]:
    """The rows of a list below an SAE's address."""
    return tuple(
        FeatureRow(
            card=card,
            url=f"{base}/{card.stats.index}{suffix}",
            preview=_preview(card, vocabulary),
            peak_label=tokens.token_label(vocabulary, card.peak_token)
            if card.peak_token >= 0
            else None,
            promoted=tuple(
                tokens.token_label(vocabulary, token_id)
                for token_id in card.promoted[:PROMOTED_SHOWN]
            ),
            explanation=said.explanations.get(card.stats.index),
            label=said.labels.get(card.stats.index),
        )
        for card in cards
    )


def _preview(card: FeatureCard, vocabulary: Vocabulary) -> tokens.Html | None:
    if card.preview is None:
        return None
    window = tokens.preview_window(
        vocabulary, card.preview, lead=PREVIEW_LEAD, width=PREVIEW_TOKENS
    )
    scale = card.stats.max_activation
    return tokens.preview_html(vocabulary, card.preview, scale=scale, window=window)


def peak_tokens(page: FeaturePage) -> tuple[int, ...]:
    """Ids of the tokens at which a feature is strongest, each once, the strongest first."""
    top = [c for c in page.contexts if c.band is Band.TOP and c.activations[c.peak] > 0]
    ids = (int(context.token_ids[context.peak]) for context in top)
    return tuple(dict.fromkeys(ids))[:PEAKS_SHOWN]
