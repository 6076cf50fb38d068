"""Explain, simulate and score: records in, questions out; replies in, values out.

No network, no database, no torch. Everything that is asked is a ``Question`` or a ``Plan``
(``core.domain.llm``); ``core.llm.ask`` sends it. Every result is an ``Outcome``: an ``Answer`` or a
``Failure`` with a code, never a 0, None or text that stands for a failure.

How a worker goes over features
-------------------------------
For each feature, given a ``core.llm.client.LlmClient`` and its probed ``capabilities``::

    split = sampling.split_specimens(specimens, rng=random.Random(seed))
    question = explain.explain_from_records([s.record for s in split.explain])
    explanation = await ask.ask(question, model)                          # Outcome[Explanation]
    simulator = inquiry.simulator(model, capabilities, language)          # core.inquiry
    simulated = await inquiry.simulate(simulator, text, records)          # SimulatedRecords
    score = scoring.simulation_score(top=…, random=…, calibration=…)
    floors = scoring.simulation_floors(…, lookup=lookup.build_lookup(held out records))
    floors[Floor.SHUFFLED] = the same score with sampling.other_explanation(…)
    score = scoring.with_floors(score, floors)
    contexts = judging.detection_contexts(split, rng=rng)                 # or fuzzing_contexts
    judgement = await ask.carry_out(judging.judging_plan(kind, …), model)
    score = scoring.classification_score(kind, contexts, judgement.value)

Without an endpoint the same steps run on ``explain.explain_offline`` and a setting of mode
``token_lookup``: plans without questions.

Where each rule is
------------------
Tokens and numbers are tuples or lists; a number may be an int. Groups as in the tests' oracle file.

============================  ====================================================================
records and numbers           ``records.normalise_openai(activations, max_activation=None)``
non-finite input              refused everywhere with ``core.errors.Invalid``
delphi's numbers              ``records.normalise_delphi(activations, max_activation=…)``
rows                          ``records.format_records_openai(records, omit_zeros=…,
                              start_indices=…)`` (raw, the peer's) and ``records.format_records``
                              (ours, visible)
sparsity                      ``records.nonzero_share(records)``, ``records.is_sparse(records)``
splits                        ``sampling.split_indices(n, sampling.TOP_SPLITS | RANDOM_SPLITS,
                              n_per_split=None)``; ours by id and text: ``split_specimens``
quantiles                     ``sampling.quantile_bounds(n_items, n_quantiles)``
expected values               ``beliefs.expected_value_openai(top_logprobs)``,
                              ``beliefs.expected_value_delphi(top_logprobs)``; ours, summing and in
                              log space: ``beliefs.expected_value(top_logprobs)``
"10" as two tokens            ``beliefs.expected_value_split_ten(p_first, p_second_given_1)``
scores, degenerate cases      ``measures.simulation_numbers(true, predicted)``: correlation, r2,
                              absolute_deviation; NaN or -inf where undefined
aggregate                     ``measures.pooled_numbers(contexts)`` of ``SimulatedContext``
score modes                   ``measures.mode_scores(top, random)``
calibration                   ``measures.linear_calibration(uncalibrated, true)``, ``apply_line``,
                              ``measures.percentile_calibration(uncalibrated, true, values)``
rows without log-probs        ``peers.simulated_text_openai(completion, tokens)`` (upstream),
                              ``peers.simulated_text_fork`` (fixed)
JSON without log-probs        ``peers.simulated_json_fork(completion, tokens)``; ours:
                              ``answers.read_sparse_activations(reply, n)``
all-at-once alignment         ``alignment.unknown_offsets(tokens, block_start=…)``,
                              ``alignment.read_unknowns(response_tokens, top_logprobs, offsets)``
classification metrics        ``peers.classification_peers(rows)``; ours: ``core.stats.confusion``
                              and ``scoring.classification_score``
classifier parse              ``peers.verdicts_delphi(text, n_shown)``: verdicts or a
                              ``DelphiParseError`` whose value is "error:…"; ours:
                              ``answers.read_verdicts(reply, n)``
classifier probability        ``peers.probability_delphi(top_logprobs)``, pairs (token, logprob)
AUROC                         ``triage.auroc(labels, values)``
highlights                    ``highlights.highlight_delphi_scorer(tokens, activations)``,
                              ``highlights.highlight_delphi_explainer``,
                              ``highlights.activation_list_delphi(tokens, activations,
                              normalised)``,
                              ``highlights.n_incorrect_delphi(activations)``,
                              ``highlights.incorrect_positions_delphi``; ours: ``marked_text``
explanation parsing           ``peers.explanation_delphi``, ``peers.explanation_saebench``,
                              ``peers.explanation_neuronpedia`` ("" when discarded,
                              ``AnswerUnparsable`` when empty)
prediction parsing            ``peers.predictions_saebench(text)``: numbers from 1, or None
SAEBench's score              ``peers.score_saebench(predictions, active)``
recall_alt                    ``peers.recall_alt_neuronpedia(top, zero, decoy)``
surprisal                     ``triage.information_value(loss_default, loss_explanation)``,
                              ``triage.surprisal_score(values, activating)``
embedding                     ``triage.similarities(query, texts)``, ``triage.embedding_score``
intervention                  ``triage.intervention_score(logp_intervened, logp_clean)``
token lookup                  ``lookup.build_lookup(records)``: means, default, ``predict(tokens)``
============================  ====================================================================
"""
