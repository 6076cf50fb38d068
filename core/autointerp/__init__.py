r"""Explain, simulate and score: records in, questions out; replies in, values out.

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
Groups as in the tests' oracle file. A number may be an int or a float; tokens and numbers may be
lists or tuples, but tuples inside of the two types that hold a context::

    ActivationRecord(tokens=("a", " b"), activations=(0, 4.5))      # core.domain.activation
    measures.SimulatedContext(true=(0, 4.5), predicted=(0, 9))

What cannot be computed is NaN or -inf where the rule says so; what cannot be accepted, such as
numbers that are not finite or lists of unequal length, raises ``core.errors.Invalid``; an answer
without content raises ``core.errors.AnswerUnparsable``. ``Outcome`` is an ``Answer`` with a
``value`` or a ``Failure`` with a ``code`` (``core.domain.explanation``).

============================  ====================================================================
records and numbers           ``records.normalise_openai(activations, max_activation=None)``: ints
                              0-10; ``records.normalise_delphi(activations, max_activation=…)``
non-finite input              refused everywhere with ``Invalid``; a log-probability may be -inf
rows                          ``records.format_records_openai(records, omit_zeros=False,
                              start_indices=None)``: a text (raw, the peer's);
                              ``records.format_records(records)`` (ours, visible)
sparsity                      ``records.nonzero_share(records)``: the share of normalised values;
                              ``records.is_sparse(records)``: whether it is below 0.2
splits                        ``sampling.split_indices(n, splits, n_per_split=None)`` with
                              ``sampling.TOP_SPLITS`` or ``RANDOM_SPLITS``: places by ``SplitName``,
                              whose values are train, calibration, valid, test; ours by id and
                              text: ``sampling.split_specimens``
quantiles                     ``sampling.quantile_bounds(n_items, n_quantiles)``: pairs of start and
                              stop
expected values               ``beliefs.expected_value_openai(top_logprobs)``,
                              ``beliefs.expected_value_delphi(top_logprobs)`` on a mapping from text
                              to natural logarithm: a ``Belief`` with ``expected``, ``distribution``
                              and ``mass``; ours, summing and in log space:
                              ``beliefs.expected_value(top_logprobs)``: an ``Outcome`` of it
"10" as two tokens            ``beliefs.expected_value_split_ten(p_first, p_second_given_1)`` on
                              mappings from text to probability: a ``Belief``
scores, degenerate cases      ``measures.simulation_numbers(true, predicted)``: ``correlation``,
                              ``r2``, ``absolute_deviation``; NaN or -inf where undefined
aggregate                     ``measures.pooled_numbers(contexts)`` of ``SimulatedContext``: the
                              same three
score modes                   ``measures.mode_scores(top, random)``: ``top_only``, ``random_only``,
                              ``top_and_random``
calibration                   ``measures.linear_calibration(uncalibrated, true)``: a line with
                              ``slope`` and ``intercept`` for ``measures.apply_line(line, values)``;
                              ``measures.percentile_calibration(uncalibrated, true, values)``
rows without log-probs        ``peers.simulated_text_openai(completion, tokens)`` (upstream),
                              ``peers.simulated_text_fork(completion, tokens)`` (fixed): a number a
                              token
JSON without log-probs        ``peers.simulated_json_fork(completion, tokens)``: a number a token;
                              ours: ``answers.read_sparse_activations(reply, n)``
all-at-once alignment         ``alignment.unknown_offsets(tokens, block_start=…)``: where each
                              ``unknown`` stands, given the offset of the block's ``<start>``;
                              ``alignment.read_unknowns(response_tokens, top_logprobs, offsets)``:
                              an ``Outcome`` of one ``Belief`` a token
classification metrics        ``peers.classification_peers(rows)`` on rows (activating, prediction
                              or None): the peers' counts and numbers by their names; ours:
                              ``core.stats.confusion`` and ``scoring.classification_score``
classifier parse              ``peers.verdicts_delphi(text, n_shown)``: a tuple of bool, or a
                              ``DelphiParseError`` that equals "error:no_match", "error:json" or
                              "error:length"; ours: ``answers.read_verdicts(reply, n)``
classifier probability        ``peers.probability_delphi(top_logprobs)`` on pairs (token, logprob)
AUROC                         ``triage.auroc(labels, values)``; NaN unless both classes are there
highlights                    ``highlights.highlight_delphi_scorer(tokens, activations,
                              threshold=0.3)``, ``highlights.highlight_delphi_explainer(…)``: texts;
                              ``highlights.activation_list_delphi(tokens, activations, normalised,
                              threshold=0.3)``: a text;
                              ``highlights.n_incorrect_delphi(activations)``: an int from one list
                              of activations a context;
                              ``highlights.incorrect_positions_delphi(activations, n_incorrect)``;
                              ours: ``highlights.marked_text(tokens, marked, marks)``
explanation parsing           ``peers.explanation_delphi(text)``,
                              ``peers.explanation_saebench(text)``,
                              ``peers.explanation_neuronpedia(text)`` ("" when discarded,
                              ``AnswerUnparsable`` when empty)
prediction parsing            ``peers.predictions_saebench(text)``: numbers from 1, or None
SAEBench's score              ``peers.score_saebench(predictions, active)``: named numbers, and one
                              bool a context
recall_alt                    ``peers.recall_alt_neuronpedia(top, zero, decoy)``: bools or "Error"
surprisal                     ``triage.information_value(loss_default, loss_explanation)`` of one
                              context, ``triage.surprisal_score(values, activating)``: AUROC
embedding                     ``triage.similarities(query, texts)``,
                              ``triage.embedding_score(query, texts, activating)``: AUROC
intervention                  ``triage.intervention_score(logp_intervened, logp_clean)``
token lookup                  ``lookup.build_lookup(records)``: ``means``, ``default``,
                              ``predict(tokens)``
============================  ====================================================================

>>> from core.autointerp import beliefs, lookup, measures, peers, records, sampling
>>> from core.domain.activation import ActivationRecord
>>> records.normalise_openai([0, 1.5, 3]), records.normalise_delphi([0, 1], max_activation=3)
((0, 5, 10), (0, 4))
>>> record = ActivationRecord(tokens=("a", " b"), activations=(0, 4))
>>> records.format_records_openai([record], start_indices=[1])
'\n<start>\na\tunknown\n b\t10\n<end>\n'
>>> records.nonzero_share([record]), records.is_sparse([record])
(0.5, False)
>>> split = sampling.split_indices(3, sampling.RANDOM_SPLITS)
>>> {name.value: places for name, places in split.items()}
{'calibration': (0,), 'valid': (1,), 'test': (2,)}
>>> beliefs.expected_value_openai({"4": -1.0, " 4": -0.1, "a": -0.2})
Belief(expected=4.0, distribution={4: 1.0}, mass=0.36787944117144233)
>>> measures.simulation_numbers([0, 0], [0, 1])
SimulationNumbers(correlation=nan, r2=-inf, absolute_deviation=-inf)
>>> top = [measures.SimulatedContext(true=(0, 4), predicted=(0, 9))]
>>> measures.mode_scores(top, []).random_only
nan
>>> line = measures.linear_calibration([0, 10], [1, 6])
>>> line.slope, line.intercept, measures.apply_line(line, [4])
(0.5, 1.0, (3.0,))
>>> peers.verdicts_delphi("[1, 0]", 2), peers.verdicts_delphi("[1]", 2) == "error:length"
((True, False), True)
>>> peers.classification_peers([(True, True), (False, None)]).n_failed
1
>>> lookup.build_lookup([record]).predict([" b", "new"])
(4.0, 2.0)
"""
