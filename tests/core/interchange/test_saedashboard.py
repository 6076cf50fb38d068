"""SAEDashboard's batch has its keys, without its known faults."""

from core.interchange.saedashboard import batch
from tests.support.feature_pages import WORDS, dead_page, living_page

KEYS = (
    "feature_index neuron_alignment_indices neuron_alignment_values neuron_alignment_l1 "
    "correlated_neurons_indices correlated_neurons_l1 correlated_neurons_pearson "
    "correlated_features_indices correlated_features_l1 correlated_features_pearson "
    "neg_str neg_values pos_str pos_values frac_nonzero freq_hist_data_bar_values "
    "freq_hist_data_bar_heights logits_hist_data_bar_heights logits_hist_data_bar_values "
    "n_prompts_total n_tokens_in_prompt dataset decoder_weights_dist vector activations"
)


def written(*pages):
    return batch(pages, WORDS, model_id="m", sae_id="12-res-1k__l0-9")


def test_a_batch_names_model_layer_set_and_suffix():
    body = written(living_page())
    names = (body["model_id"], body["layer"], body["sae_set"], body["sae_id_suffix"])
    assert names == ("m", 12, "res-1k", "l0-9")


def test_every_feature_has_the_same_keys_dead_or_not():
    living, dead = written(living_page(), dead_page())["features"]
    assert set(living) == set(dead) == set(KEYS.split())
    assert dead["activations"] == []


def test_density_is_exact():
    assert written(living_page())["features"][0]["frac_nonzero"] == 5 / 260


def test_position_0_is_cut_and_the_peak_moves_with_it():
    top = written(living_page())["features"][0]["activations"][0]
    assert top["tokens"] == ["a", " b", "\n"]
    assert top["values"] == [0, 4, 0]
    assert top["values"][top["qualifying_token_index"]] == 4


def test_the_top_group_is_marked_by_minus_one():
    top, band, _ = written(living_page())["features"][0]["activations"]
    assert (top["bin_min"], top["bin_max"], top["bin_contains"]) == (-1, 4, -1)
    assert (band["bin_min"], band["bin_max"], band["bin_contains"]) == (2, 3, 0.25)
