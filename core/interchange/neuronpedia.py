"""Features in Neuronpedia's formats: upload batches, rows of its bulk export, its feature JSON.

Read from hijohnnylin/neuronpedia at ``ebb8426f``. Its words differ from ours: *layer* and *source*
are the SAE id, *frac_nonzero* is the density, *pos* and *neg* are promoted and suppressed tokens.
Text columns of PostgreSQL hold no NUL, so that a NUL in a token becomes a space, as its own
importer does.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from core.domain.activation import Band, ContextActivations
from core.domain.label import Label, LabelText
from core.domain.views import FeaturePage, TokenWeight, Vocabulary

UPLOAD_FEATURES = 128  # most features of one upload batch
UPLOAD_TOKENS = 1_024  # most tokens of one activation
UPLOAD_LOGITS = 20
CREATOR_ID = "clkht01d40000jv08hvalcvly"  # the seed user that owns public activations there

Row = dict[str, Any]  # of JSON


def upload_batch(
    pages: Sequence[FeaturePage], words: Vocabulary, *, model_id: str, source: str
) -> Row:
    """The body of ``POST /api/feature/upload-batch``; dead features, which it refuses, left out.

    Args:
        pages: at most 128 features of one SAE.
        words: the model's vocabulary.
        model_id: the model's id there.
        source: the SAE's id there, e.g. ``12-gemmascope-res-16k``.
    """
    features = [_upload_feature(p, words) for p in pages if not p.stats.dead]
    return {"modelId": model_id, "source": source, "features": features}


def feature_row(page: FeaturePage) -> Row:
    """A line of ``features/batch-N.jsonl`` without its tokens; every line has the same keys."""
    stats, histogram = page.stats, page.histogram
    width = histogram.bin_width
    filled = max((i + 1 for i, n in enumerate(histogram.counts.tolist()) if n), default=0)
    return {
        "modelId": page.model_id,
        "layer": page.sae.sae_id,
        "index": str(stats.index),
        "sourceSetName": source_set(page.sae.sae_id),
        "creatorId": CREATOR_ID,
        "maxActApprox": stats.max_activation,
        "frac_nonzero": stats.density,
        "freq_hist_data_bar_heights": histogram.counts.tolist()[:filled],
        "freq_hist_data_bar_values": [(i + 0.5) * width for i in range(filled)],
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [],
        "correlated_neurons_pearson": [],
        "correlated_neurons_l1": [],
        "decoder_weights_dist": [],
        "topkCosSimIndices": [near.index for near in page.decoder_cosine],
        "topkCosSimValues": [near.value for near in page.decoder_cosine],
        "vector": [],
        "vectorLabel": None,
        "hookName": page.sae.hook_name,
        "vectorDefaultSteerStrength": 10,
        "hasVector": False,
    }


def neuron(page: FeaturePage, words: Vocabulary) -> Row:
    """A line of ``features/batch-N.jsonl``: the row with the tokens of its logit effect."""
    return feature_row(page) | {
        "pos_str": [text_of(words, weight.token_id) for weight in page.promoted],
        "pos_values": [weight.value for weight in page.promoted],
        "neg_str": [text_of(words, weight.token_id) for weight in page.suppressed],
        "neg_values": [weight.value for weight in page.suppressed],
    }


def activations(page: FeaturePage, words: Vocabulary) -> Iterator[Row]:
    """Lines of ``activations/batch-N.jsonl``: one a stored context, the strongest first."""
    contexts = sorted(page.contexts, key=lambda c: -float(c.activations[c.peak]))
    for context in contexts:
        low, high, share = _bin(page, context)
        values = context.activations.tolist()
        yield {
            "id": _activation_id(page, context),
            "modelId": page.model_id,
            "layer": page.sae.sae_id,
            "index": str(page.stats.index),
            "creatorId": CREATOR_ID,
            "dataIndex": str(context.context_index),
            "dataSource": context.source,
            "tokens": [text_of(words, token_id) for token_id in context.token_ids.tolist()],
            "values": values,
            "maxValue": max(values),
            "maxValueTokenIndex": context.peak,
            "minValue": min(values),
            "dfaValues": [],
            "dfaMaxValue": None,
            "dfaTargetIndex": None,
            "lossValues": [],
            "binContains": share,
            "binMin": low,
            "binMax": high,
            "qualifyingTokenIndex": context.peak,
        }


def explanation(label: Label) -> Row:
    """A line of ``explanations/batch-N.jsonl``: the name that people gave, without an embedding."""
    feature = label.feature
    return {
        "id": _id(f"{feature}/label/{label.version}"),
        "modelId": feature.model_id,
        "layer": feature.sae_id,
        "index": str(feature.index),
        "authorId": CREATOR_ID,
        "description": label.text.name,
        "notes": label.text.note or None,
        "embedding": None,
        "typeName": None,
        "explanationModelName": None,
        "umap_x": 0,
        "umap_y": 0,
        "umap_cluster": 0,
        "umap_log_feature_sparsity": 0,
    }


def feature_json(page: FeaturePage, words: Vocabulary, label: Label | None = None) -> Row:
    """The answer of ``GET /api/feature/{modelId}/{layer}/{index}``.

    A label's name is an explanation there, its note a comment, and each tag a list.
    """
    text = label.text if label else LabelText()
    author = {"name": label.author if label else ""}
    lists = [{"list": {"name": tag}, "description": None} for tag in text.tags]
    named = {"id": "", "description": text.name, "explanationModelName": None, "typeName": None}
    if label:
        named["id"] = _id(f"{label.feature}/label/{label.version}")
    return neuron(page, words) | {
        "model": {"id": page.model_id, "layers": page.sae.layer + 1, "owner": ""},
        "source": {"id": page.sae.sae_id, "modelId": page.model_id},
        "sourceSet": {"name": source_set(page.sae.sae_id), "modelId": page.model_id},
        "creator": None,
        "lists": lists,
        "comments": [{"text": text.note, "user": author}] if text.note else [],
        "explanations": [named | {"scores": [], "triggeredByUser": author}] if text.name else [],
        "activations": list(activations(page, words)),
    }


def source_set(sae_id: str) -> str:
    """The source set of a source id: what stands between the first dash and ``__``.

    >>> source_set("12-gemmascope-res-16k__l0-176")
    'gemmascope-res-16k'
    """
    _, dash, rest = sae_id.partition("-")
    return (rest if dash else sae_id).partition("__")[0]


def text_of(words: Vocabulary, token_id: int) -> str:
    """A token's text as PostgreSQL can hold it; empty outside the vocabulary."""
    raw = words.tokens[token_id] if 0 <= token_id < len(words.tokens) else b""
    return raw.decode("utf-8", errors="replace").replace("\0", " ")


def _upload_feature(page: FeaturePage, words: Vocabulary) -> Row:
    return {
        "index": page.stats.index,
        "density": page.stats.density,
        "topLogits": _logits(page.promoted, words),
        "bottomLogits": _logits(page.suppressed, words),
        "activations": [_upload_activation(page, c, words) for c in page.contexts],
    }


def _upload_activation(page: FeaturePage, context: ContextActivations, words: Vocabulary) -> Row:
    ids = context.token_ids.tolist()[:UPLOAD_TOKENS]
    low, high, share = _bin(page, context)
    body: Row = {
        "tokens": [text_of(words, token_id) for token_id in ids],
        "values": context.activations.tolist()[:UPLOAD_TOKENS],
    }
    if context.band is not Band.TOP:
        body |= {"quantileMin": low, "quantileMax": high, "quantileFraction": share}
    return body


def _logits(weights: Sequence[TokenWeight], words: Vocabulary) -> list[Row]:
    return [
        {"token": text_of(words, weight.token_id), "value": weight.value}
        for weight in weights[:UPLOAD_LOGITS]
    ]


def _bin(page: FeaturePage, context: ContextActivations) -> tuple[float, float, float]:
    """Least and greatest maximum of the kept contexts of a band, and its share; -1 marks TOP.

    Bands are cut by rank, so that every quarter holds a fourth of the firing contexts.
    """
    if context.band is Band.TOP:
        return -1.0, page.stats.max_activation, -1.0
    peaks = [float(c.activations[c.peak]) for c in page.contexts if c.band is context.band]
    return min(peaks), max(peaks), 0.25


def _activation_id(page: FeaturePage, context: ContextActivations) -> str:
    """25 characters like theirs, the same for the same context of the same harvest."""
    name = (
        f"{page.model_id}/{page.sae.sae_id}/{page.stats.index}/{page.harvest.spec_hash}/"
        f"{context.band.name}/{context.context_index}"
    )
    return _id(name)


def _id(name: str) -> str:
    return "c" + hashlib.sha256(name.encode()).hexdigest()[:24]
