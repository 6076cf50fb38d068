"""Our arithmetic against numbers that an independent program computed.

Every group of autointerp.json is read through the public functions of core.autointerp, as its
package docstring lists them.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from core.autointerp import beliefs, highlights, lookup, measures, peers, records, sampling, triage
from core.autointerp.alignment import read_unknowns, unknown_offsets
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer
from core.errors import AnswerUnparsable, Invalid
from tests.support.outcomes import value

ORACLE = json.loads((Path(__file__).parent / "autointerp.json").read_text(encoding="utf-8"))


def cases(group):
    found = ORACLE[group].get("cases") or [ORACLE[group]["case"]]
    ids = [str(c.get("name") or c.get("kind") or c.get("text") or i) for i, c in enumerate(found)]
    return pytest.mark.parametrize("case", found, ids=ids)


def number(given):
    return float(given) if isinstance(given, str) else given


def near(value):
    return pytest.approx(number(value), abs=1e-9, nan_ok=True)


def near_all(values):
    return pytest.approx([number(v) for v in values], abs=1e-9, nan_ok=True)


def record(tokens, activations):
    return ActivationRecord(tokens=tuple(tokens), activations=tuple(float(a) for a in activations))


def records_of(pairs):
    return [record(tokens, activations) for tokens, activations in pairs]


def test_every_group_of_the_file_is_tested_here():
    source = Path(__file__).read_text(encoding="utf-8")
    missing = [g for g in ORACLE if g != "meta" and f'cases("{g}")' not in source]
    assert not missing


@cases("normalise_openai")
def test_openais_normalisation(case):
    given = case["max_activation"] if case["max_given"] else None
    assert (
        list(records.normalise_openai(case["activations"], max_activation=given))
        == case["expected"]
    )


@cases("nonfinite_reference_behaviour")
def test_what_is_not_finite_is_refused_where_the_peer_returns_zeros_or_crashes(case):
    with pytest.raises(Invalid):
        records.normalise_openai([number(a) for a in case["activations"]])


@cases("normalise_delphi")
def test_delphis_normalisation(case):
    got = records.normalise_delphi(case["activations"], max_activation=case["max_activation"])
    assert list(got) == case["expected"]


@cases("format_records_openai")
def test_openais_rows(case):
    got = records.format_records_openai(
        records_of(case["records"]),
        omit_zeros=case["omit_zeros"],
        start_indices=case["start_indices"],
    )
    assert got == case["expected"]


@cases("sparsity_rule")
def test_when_non_zero_rows_are_repeated(case):
    shown = [record(["x"] * len(a), a) for a in case["records"]]
    assert records.nonzero_share(shown) == near(case["nonzero_proportion"])
    assert records.is_sparse(shown) is case["repeat_nonzero_block"]


@cases("record_splits")
def test_splits_are_interleaved(case):
    splits = sampling.TOP_SPLITS if case["kind"] == "top" else sampling.RANDOM_SPLITS
    got = sampling.split_indices(case["n_available"], splits, n_per_split=case["n_per_split"])
    assert {split.value: list(places) for split, places in got.items()} == case["expected_indices"]


@cases("expected_value_openai")
def test_openais_expected_value(case):
    belief = beliefs.expected_value_openai({k: number(v) for k, v in case["top_logprobs"].items()})
    assert belief.expected == near(case["expected_value"])
    expected = {int(k): v for k, v in case["distribution"].items()}
    assert belief.distribution == pytest.approx(expected, abs=1e-9)


@cases("expected_value_delphi")
def test_delphis_expected_value_and_the_sum_that_ours_takes_instead(case):
    logprobs = {k: number(v) for k, v in case["top_logprobs"].items()}
    if "summing" in case["name"]:
        assert value(beliefs.expected_value(logprobs)).expected == near(case["expected_value"])
    else:
        assert beliefs.expected_value_delphi(logprobs).expected == near(case["expected_value"])


@cases("expected_value_split_ten")
def test_expected_value_when_ten_is_one_or_two_tokens(case):
    if "p_first" in case:
        belief = beliefs.expected_value_split_ten(case["p_first"], case["p_second_given_1"])
        assert belief.expected == near(case["expected_value"])
    else:
        outcome = beliefs.expected_value(case["top_logprobs"])
        assert value(outcome).expected == near(case["expected_value"])


@cases("scores")
def test_scores_and_their_degenerate_cases(case):
    got = measures.simulation_numbers(case["true"], case["predicted"])
    assert got.correlation == near(case["ev_correlation_score"])
    assert got.r2 == near(case["rsquared_score"])
    assert got.absolute_deviation == near(case["absolute_dev_explained_score"])


def contexts(rows):
    return [
        measures.SimulatedContext(true=tuple(r["true"]), predicted=tuple(r["pred"])) for r in rows
    ]


@cases("aggregate")
def test_scores_are_pooled_and_never_averaged(case):
    sequences = contexts(case["sequences"])
    alone = [measures.pooled_numbers([s]).correlation for s in sequences]
    together = measures.pooled_numbers(sequences)
    assert alone == near_all(case["per_sequence_correlation"])
    assert together.correlation == near(case["preferred_score_concatenated"])
    assert together.r2 == near(case["rsquared_concatenated"])
    assert together.absolute_deviation == near(case["absdev_concatenated"])


@cases("score_modes")
def test_top_and_random_contexts_are_pooled(case):
    got = asdict(measures.mode_scores(contexts(case["top"]), contexts(case["random"])))
    assert got == pytest.approx(case["expected"], abs=1e-9)


@cases("calibration")
def test_calibration(case):
    simulated, true = case["uncalibrated"], case["true"]
    if case["kind"].startswith("percentile"):
        got = measures.percentile_calibration(simulated, true, case["apply_to"])
        assert list(got) == near_all(case["expected"])
        return
    line = measures.linear_calibration(simulated, true)
    if "slope" in case:
        assert (line.slope, line.intercept) == near_all([case["slope"], case["intercept"]])
    if "apply_to" in case:
        assert list(measures.apply_line(line, case["apply_to"])) == near_all(case["expected"])
    if "heldout_true" in case:
        before = measures.simulation_numbers(case["heldout_true"], case["heldout_uncalibrated"])
        mapped = measures.apply_line(line, case["heldout_uncalibrated"])
        after = measures.simulation_numbers(case["heldout_true"], mapped)
        assert before.correlation == near(case["corr_uncalibrated"])
        assert after.correlation == near(case["corr_calibrated"])


@cases("logprob_free_text")
def test_rows_of_text_as_the_peers_read_them(case):
    got = peers.simulated_text_openai(case["completion"], case["tokens"])
    mended = peers.simulated_text_fork(case["completion"], case["tokens"])
    assert list(got) == near_all(case["expected_upstream"])
    assert list(mended) == near_all(case["expected_fixed"])


@cases("logprob_free_json")
def test_json_as_the_peers_read_it(case):
    got = peers.simulated_json_fork(case["completion"], case["tokens"])
    assert list(got) == near_all(case["expected"])


@cases("all_at_once_alignment")
def test_rows_are_found_by_recorded_offsets_and_not_by_searching(case):
    start = case.get("true_block_start", case["text"].index("<start>"))
    offsets = unknown_offsets(case["tokens"], block_start=start)
    assert all(case["text"][o : o + 7] == "unknown" for o in offsets)
    assert len(offsets) == len(case["tokens"])
    if "response_tokens" in case:
        outcomes = read_unknowns(case["response_tokens"], case["top_logprobs"], offsets)
        assert isinstance(outcomes, Answer)
        assert [b.expected for b in outcomes.value] == near_all(case["expected"])
    if "rfind_position" in case:
        assert case["text"].rfind("<start>") == case["rfind_position"] != start


@cases("classification_metrics")
def test_the_peers_classification_numbers(case):
    got = asdict(peers.classification_peers(case["rows"]))
    assert {k: got[k] for k in case["expected"]} == pytest.approx(case["expected"], abs=1e-9)


@cases("classifier_parse")
def test_delphis_reading_of_verdicts(case):
    got = peers.verdicts_delphi(case["text"], case["n_examples_shown"])
    assert (got if isinstance(got, str) else list(got)) == case["expected"]


@cases("classifier_probability")
def test_delphis_probability(case):
    assert peers.probability_delphi(case["top_logprobs"]) == near(case["expected_p1"])


@cases("auroc")
def test_auroc(case):
    assert triage.auroc(case["labels"], case["scores"]) == near(case["expected"])


@cases("fuzz_and_explainer_highlight")
def test_delphis_marks(case):
    got: object
    match case["kind"]:
        case "explainer_activation_list":
            got = highlights.activation_list_delphi(
                case["tokens"], case["activations"], case["normalised"], threshold=case["threshold"]
            )
        case "explainer_highlight":
            got = highlights.highlight_delphi_explainer(
                case["tokens"], case["activations"], threshold=case["threshold"]
            )
        case "n_incorrect":
            got = highlights.n_incorrect_delphi(case["activations"])
        case _:
            got = highlights.highlight_delphi_scorer(
                case["tokens"], case["activations"], threshold=case["threshold"]
            )
    assert got == case["expected"]


@cases("quantiles")
def test_quantile_slices(case):
    bounds = sampling.quantile_bounds(case["n_examples"], case["n_quantiles"])
    assert [list(b) for b in bounds] == case["quantile_bounds"]
    kept = {i for start, stop in bounds for i in range(start, stop)}
    assert sorted(set(range(case["n_examples"])) - kept) == case["dropped"]


PARSERS = {
    "delphi": peers.explanation_delphi,
    "neuronpedia_webapp_np_max_act": peers.explanation_neuronpedia,
    "saebench_explanation": peers.explanation_saebench,
    "saebench_predictions": peers.predictions_saebench,
}


@cases("explanation_and_prediction_parsing")
def test_how_peers_read_explanations_and_predictions(case):
    try:
        got = PARSERS[case["rule"]](case["text"])
    except AnswerUnparsable:
        got = "error"
    assert (list(got) if isinstance(got, tuple) else got) == case["expected"]


@cases("saebench_score")
def test_saebenchs_plain_accuracy_and_what_no_answer_scores(case):
    active = [i < case["positives"] for i in range(case["n"])]
    everything = range(1, case["n"] + 1)
    assert peers.score_saebench([], active) == near(case["all_none_prediction_score"])
    assert peers.score_saebench(everything, active) == near(case["all_yes_prediction_score"])


@cases("recall_alt")
def test_neuronpedias_recall_alt(case):
    got = peers.recall_alt_neuronpedia(case["top"], case["zero"], case["decoy"])
    assert got == near(case["expected"])


@cases("surprisal")
def test_information_values_and_their_auroc(case):
    values = [triage.information_value(c["loss_default"], c["loss_expl"]) for c in case["contexts"]]
    activating = [c["activating"] for c in case["contexts"]]
    assert values == near_all(case["information_values"])
    assert triage.surprisal_score(values, activating) == near(case["expected_auroc"])


@cases("embedding")
def test_similarities_and_their_auroc(case):
    got = triage.similarities(case["query"], case["texts"])
    assert list(got) == near_all(case["similarities"])
    score = triage.embedding_score(case["query"], case["texts"], case["activating"])
    assert score == near(case["expected_auroc"])


@cases("intervention")
def test_intervention_score(case):
    got = triage.intervention_score(case["logp_z_given_intervened"], case["logp_z_given_clean"])
    assert got == near(case["expected"])


@cases("token_lookup_baseline")
def test_token_lookup_table(case):
    corpus = records_of(zip(case["corpus_tokens"], case["corpus_activations"], strict=True))
    table = lookup.build_lookup(corpus)
    predictions = table.predict(case["eval_tokens"])
    assert dict(table.means) == pytest.approx(case["table"])
    assert table.default == near(case["global_mean"])
    assert list(predictions) == near_all(case["predictions"])
    got = measures.simulation_numbers(case["eval_activations"], predictions).correlation
    assert got == near(case["expected_correlation"])
    assert not math.isnan(got)
