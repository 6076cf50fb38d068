"""Neuronpedia's forms have its keys, its limits and our numbers."""

import json

from core.domain.ids import FeatureId
from core.domain.label import Label, LabelText
from core.interchange.neuronpedia import (
    activations,
    explanation,
    feature_json,
    neuron,
    source_set,
    upload_batch,
)
from tests.support.feature_pages import WORDS, dead_page, living_page

FEATURE_KEYS = (
    "modelId layer index maxActApprox creatorId frac_nonzero freq_hist_data_bar_heights "
    "freq_hist_data_bar_values logits_hist_data_bar_heights logits_hist_data_bar_values "
    "neuron_alignment_indices neuron_alignment_l1 neuron_alignment_values "
    "correlated_neurons_indices correlated_neurons_l1 correlated_neurons_pearson "
    "decoder_weights_dist neg_str neg_values pos_str pos_values sourceSetName "
    "topkCosSimIndices topkCosSimValues vector vectorLabel hookName "
    "vectorDefaultSteerStrength hasVector"
)
ACTIVATION_KEYS = (
    "id modelId layer index creatorId dataSource tokens maxValue minValue values "
    "maxValueTokenIndex dfaValues dfaMaxValue dfaTargetIndex binContains binMin binMax"
)


def test_an_upload_batch_leaves_out_dead_features():
    body = upload_batch([living_page(5), dead_page(6)], WORDS, model_id="m", source="12-res-1k")
    assert (body["modelId"], body["source"]) == ("m", "12-res-1k")
    (feature,) = body["features"]
    assert feature["index"] == 5
    assert feature["density"] == 5 / 260
    assert feature["topLogits"] == [{"token": " b", "value": 0.25}]
    assert feature["bottomLogits"] == [{"token": "a", "value": -0.5}]


def test_uploaded_activations_are_whole_contexts_with_their_bands():
    (feature,) = upload_batch([living_page()], WORDS, model_id="m", source="s")["features"]
    top, first, second = feature["activations"]
    assert top == {"tokens": ["<bos>", "a", " b", "\n"], "values": [0, 0, 4, 0]}
    assert first["quantileMin"] == second["quantileMin"] == 2
    assert first["quantileMax"] == 3
    assert first["quantileFraction"] == 0.25


def test_a_token_that_a_text_column_cannot_hold_becomes_a_space():
    (feature,) = upload_batch([living_page()], WORDS, model_id="m", source="s")["features"]
    assert feature["activations"][2]["tokens"] == ["<bos>", "a", " "]
    assert "\0" not in json.dumps(feature)


def test_every_line_of_a_features_file_has_all_keys_of_the_bulk_export():
    for page in (living_page(), dead_page()):
        assert set(neuron(page, WORDS)) == set(FEATURE_KEYS.split())


def test_the_histogram_ends_at_the_last_bin_that_counts():
    row = neuron(living_page(), WORDS)
    assert row["freq_hist_data_bar_heights"] == [3, 0, 2]
    assert row["freq_hist_data_bar_values"] == [0.0625, 0.1875, 0.3125]
    assert neuron(dead_page(), WORDS)["freq_hist_data_bar_heights"] == []


def test_lines_of_an_activations_file_have_the_keys_and_the_strongest_come_first():
    lines = list(activations(living_page(), WORDS))
    assert all(set(ACTIVATION_KEYS.split()) <= set(line) for line in lines)
    assert [line["maxValue"] for line in lines] == [4, 3, 2]
    assert [line["binContains"] for line in lines] == [-1, 0.25, 0.25]
    assert all(len(line["id"]) == 25 for line in lines)
    assert len({line["id"] for line in lines}) == 3


def test_an_id_is_the_same_for_the_same_context():
    first, again = (next(activations(living_page(), WORDS)) for _ in range(2))
    assert first == again


def test_the_feature_json_carries_its_activations_and_an_index_as_text():
    body = feature_json(living_page(), WORDS)
    assert body["index"] == "5"
    assert body["layer"] == "12-res-1k__l0-9"
    assert body["sourceSetName"] == "res-1k"
    assert len(body["activations"]) == 3
    assert body["explanations"] == []


def test_a_source_without_a_dash_is_its_own_set():
    assert source_set("neurons") == "neurons"


def test_a_label_is_an_explanation_lists_and_a_comment():
    feature = FeatureId(model_id="m", sae_id="12-res-1k__l0-9", index=2)
    text = LabelText(name="rivers", note="also lakes", tags=("water", "语气"))
    label = Label(feature=feature, text=text, author="Ann", version=3, changed_at=None)
    body = feature_json(living_page(), WORDS, label)
    assert [one["description"] for one in body["explanations"]] == ["rivers"]
    assert [one["list"]["name"] for one in body["lists"]] == ["water", "语气"]
    assert body["comments"] == [{"text": "also lakes", "user": {"name": "Ann"}}]
    line = explanation(label)
    assert (line["index"], line["description"]) == ("2", "rivers")
    assert len(line["id"]) == 25
