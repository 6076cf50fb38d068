"""Features as SAEDashboard's ``batch-N.json``.

Read from jbloomAus/SAEDashboard at ``db4839a`` and checked against a file that sae-dashboard 0.8.0
wrote. Where that program is known to err we write the right number: densities are exact, groups
hold each context once, and a feature that never fires has no activations. As there, position 0
(BOS) is cut from every context.
"""

from collections.abc import Sequence

from core.domain.activation import Band, ContextActivations
from core.domain.views import FeaturePage, Neighbour, Vocabulary
from core.interchange.neuronpedia import Row, feature_row, source_set, text_of

BATCH_FEATURES = 128


def batch(pages: Sequence[FeaturePage], words: Vocabulary, *, model_id: str, sae_id: str) -> Row:
    """One ``batch-N.json``.

    Args:
        pages: the features of the batch, in the order of their index.
        words: the model's vocabulary.
        model_id: the model's id.
        sae_id: the SAE's id; what follows ``__`` becomes the suffix.
    """
    _, _, suffix = sae_id.partition("__")
    layer = pages[0].sae.layer if pages else None
    return {
        "model_id": model_id,
        "layer": layer,
        "sae_set": source_set(sae_id),
        "sae_id_suffix": suffix or None,
        "features": [_feature(page, words) for page in pages],
    }


def _feature(page: FeaturePage, words: Vocabulary) -> Row:
    row = feature_row(page)
    kept = (
        "neuron_alignment_indices",
        "neuron_alignment_values",
        "neuron_alignment_l1",
        "correlated_neurons_indices",
        "correlated_neurons_pearson",
        "correlated_neurons_l1",
        "frac_nonzero",
        "freq_hist_data_bar_heights",
        "freq_hist_data_bar_values",
        "logits_hist_data_bar_heights",
        "logits_hist_data_bar_values",
        "decoder_weights_dist",
        "vector",
    )
    return {
        "feature_index": page.stats.index,
        **{name: row[name] for name in kept},
        **_correlated(page.coactivation),
        "pos_str": [text_of(words, weight.token_id) for weight in page.promoted],
        "pos_values": [weight.value for weight in page.promoted],
        "neg_str": [text_of(words, weight.token_id) for weight in page.suppressed],
        "neg_values": [weight.value for weight in page.suppressed],
        "n_prompts_total": page.harvest.n_contexts,
        "n_tokens_in_prompt": page.harvest.context_size,
        "dataset": page.harvest.corpus_name,
        "activations": [_activation(page, context, words) for context in page.contexts],
    }


def _correlated(near: Sequence[Neighbour]) -> Row:
    return {
        "correlated_features_indices": [neighbour.index for neighbour in near],
        "correlated_features_pearson": [neighbour.value for neighbour in near],
        "correlated_features_l1": [],
    }


def _activation(page: FeaturePage, context: ContextActivations, words: Vocabulary) -> Row:
    top = context.band is Band.TOP
    peaks = [float(c.activations[c.peak]) for c in page.contexts if c.band is context.band]
    return {
        "bin_min": -1.0 if top else min(peaks),
        "bin_max": page.stats.max_activation if top else max(peaks),
        "bin_contains": -1.0 if top else 0.25,
        "tokens": [text_of(words, token_id) for token_id in context.token_ids.tolist()[1:]],
        "values": context.activations.tolist()[1:],
        "qualifying_token_index": max(context.peak - 1, 0),
    }
