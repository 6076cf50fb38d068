"""Scores from simulated or judged contexts, each beside what it must beat.

A score is computed over what was answered, says how much that was, and below a coverage of 80 %
has a reason instead of a value. Undefined values have reasons too. Nothing is averaged over
contexts: activations are pooled, verdicts are counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.autointerp.answers import Verdict
from core.autointerp.judging import JudgedContext, Judgement
from core.autointerp.lookup import AUTHOR, TokenLookup
from core.autointerp.measures import SimulatedContext, pooled
from core.domain.activation import ActivationRecord
from core.domain.explanation import (
    Answer,
    Floor,
    Measure,
    Metric,
    Missing,
    Outcome,
    Score,
    ScoreKind,
    Simulation,
    SimulationMode,
    count_failures,
    missing_for_coverage,
)
from core.stats import (
    Draws,
    auroc,
    bootstrap_interval,
    confusion,
    explained_variance,
    least_squares,
    pearson,
    resampled_balanced_accuracy,
    resampled_pearson,
)

_SEED = 0
CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRecord:
    """A record with the outcome of simulating it."""

    record: ActivationRecord
    outcome: Outcome[Simulation]


def simulation_score(
    *,
    top: Sequence[SimulatedRecord],
    random: Sequence[SimulatedRecord],
    calibration: Sequence[SimulatedRecord] = (),
    template: str = "",
) -> Score:
    """Pearson over pooled raw activations, and centred R² after calibration on other contexts.

    Args:
        top: contexts of highest activation that the explainer did not see.
        random: contexts drawn uniformly from the corpus.
        calibration: contexts on which the line from simulated to real activations is fitted.
        template: name, version and hash of the prompt template.
    """
    both = [*top, *random]
    outcomes = [simulated.outcome for simulated in both]
    n_ok = sum(isinstance(o, Answer) for o in outcomes)
    first = next((o.value for o in outcomes if isinstance(o, Answer)), None)
    return Score(
        kind=ScoreKind.SIMULATION,
        metrics={
            Metric.TOP_AND_RANDOM: _correlation(both, with_interval=True),
            Metric.RANDOM_ONLY: _correlation(random),
            Metric.CALIBRATED_R2: _calibrated_r2(both, calibration),
        },
        n=len(both),
        n_ok=n_ok,
        failures=count_failures(outcomes),
        judge=first.judge if first else "",
        mode=first.mode if first else None,
        template=template,
    )


def classification_score(
    kind: ScoreKind,
    contexts: Sequence[JudgedContext],
    judgement: Judgement,
    *,
    template: str = "",
) -> Score:
    """Balanced accuracy, F1, precision, recall and AUROC of a judge's verdicts.

    Always read F1 beside balanced accuracy: the latter does not see extra labels. AUROC needs a
    probability for every answered context.
    """
    n_ok = sum(isinstance(v, Answer) for v in judgement.verdicts)
    pairs = [
        (context.label, outcome.value)
        for context, outcome in zip(contexts, judgement.verdicts, strict=True)
        if isinstance(outcome, Answer)
    ]
    gap = missing_for_coverage(n=len(contexts), n_ok=n_ok)
    return Score(
        kind=kind,
        metrics={m: Measure(value=None, missing=gap) for m in _JUDGED} if gap else _judged(pairs),
        n=len(contexts),
        n_ok=n_ok,
        failures=count_failures(judgement.verdicts),
        judge=judgement.judge,
        template=template,
    )


def with_floors(score: Score, floors: Mapping[Floor, Score]) -> Score:
    """The score with its floors beside it."""
    return replace(score, floors=dict(floors))


def simulation_floors(
    *,
    top: Sequence[ActivationRecord],
    random: Sequence[ActivationRecord],
    calibration: Sequence[ActivationRecord],
    lookup: TokenLookup,
) -> dict[Floor, Score]:
    """The floors of a simulation score that need no model: token lookup and a constant.

    The lookup table must come from other records than these. The shuffled floor is a simulation
    score like any other, with the explanation of another feature.
    """

    def table(record: ActivationRecord) -> Simulation:
        values = tuple(belief.expected for belief in lookup.simulate(record.tokens))
        return _offline(values, AUTHOR)

    def constant(record: ActivationRecord) -> Simulation:
        return _offline((0.0,) * len(record.tokens), CONSTANT)

    return {
        floor: simulation_score(
            top=[SimulatedRecord(record=r, outcome=Answer(simulate(r))) for r in top],
            random=[SimulatedRecord(record=r, outcome=Answer(simulate(r))) for r in random],
            calibration=[
                SimulatedRecord(record=r, outcome=Answer(simulate(r))) for r in calibration
            ],
        )
        for floor, simulate in ((Floor.TOKEN_LOOKUP, table), (Floor.CONSTANT, constant))
    }


def classification_floors(
    kind: ScoreKind, contexts: Sequence[JudgedContext], lookup: TokenLookup
) -> dict[Floor, Score]:
    """The floors of detection and fuzzing that need no model: token lookup and "always yes".

    The table says yes when the largest (for fuzzing: the smallest marked) mean activation reaches
    half of the largest in the table.
    """
    top = max(lookup.means.values(), default=0.0)
    by_table = [_lookup_verdict(context, lookup, top) for context in contexts]
    always = [Verdict(fires=True, probability=0.5) for _ in contexts]
    return {
        floor: classification_score(
            kind,
            contexts,
            Judgement(verdicts=tuple(Answer(verdict) for verdict in verdicts), judge=judge),
        )
        for floor, verdicts, judge in (
            (Floor.TOKEN_LOOKUP, by_table, AUTHOR),
            (Floor.CONSTANT, always, CONSTANT),
        )
    }


_JUDGED = (
    Metric.BALANCED_ACCURACY,
    Metric.F1,
    Metric.PRECISION,
    Metric.RECALL,
    Metric.AUROC,
)


def _judged(pairs: Sequence[tuple[bool, Verdict]]) -> dict[Metric, Measure]:
    labels = np.array([label for label, _ in pairs], dtype=bool)
    fires = np.array([verdict.fires for _, verdict in pairs], dtype=bool)
    counts = confusion(labels, fires)
    one_class = labels.all() or not labels.any()
    both_missing = Missing.ONE_CLASS if one_class else None

    def balanced(draws: Draws) -> np.ndarray:
        return resampled_balanced_accuracy(labels, fires, draws)

    interval = bootstrap_interval(balanced, len(labels), rng=np.random.default_rng(_SEED))
    return {
        Metric.BALANCED_ACCURACY: replace(
            _measure(counts.balanced_accuracy, both_missing), interval=interval
        ),
        Metric.F1: _measure(counts.f1, Missing.NOTHING_POSITIVE),
        Metric.PRECISION: _measure(counts.precision, Missing.NOTHING_POSITIVE),
        Metric.RECALL: _measure(counts.recall, Missing.ONE_CLASS),
        Metric.AUROC: _auroc([(label, v.probability) for label, v in pairs]),
    }


def _auroc(pairs: Sequence[tuple[bool, float | None]]) -> Measure:
    known = [(label, p) for label, p in pairs if p is not None]
    if len(known) < len(pairs):
        return Measure(value=None, missing=Missing.NO_PROBABILITIES)
    labels = np.array([label for label, _ in known], dtype=bool)
    return _measure(
        auroc(labels, np.array([p for _, p in known], dtype=np.float64)), Missing.ONE_CLASS
    )


def _correlation(simulated: Sequence[SimulatedRecord], *, with_interval: bool = False) -> Measure:
    contexts, gap = _answered(simulated)
    if gap:
        return Measure(value=None, missing=gap)
    true, predicted = pooled(contexts)
    if len(true) < 2 or np.ptp(true) == 0:
        return Measure(value=None, missing=Missing.CONSTANT_TRUTH)
    if np.ptp(predicted) == 0:
        return Measure(value=None, missing=Missing.CONSTANT_PREDICTION)

    def resampled(draws: Draws) -> np.ndarray:
        return resampled_pearson([pooled([context]) for context in contexts], draws)

    rng = np.random.default_rng(_SEED)
    interval = bootstrap_interval(resampled, len(contexts), rng=rng) if with_interval else None
    return replace(
        _measure(pearson(true, predicted), Missing.CONSTANT_PREDICTION), interval=interval
    )


def _calibrated_r2(
    scored: Sequence[SimulatedRecord], calibration: Sequence[SimulatedRecord]
) -> Measure:
    contexts, gap = _answered(scored)
    fitted, no_fit = _answered(calibration)
    if gap:
        return Measure(value=None, missing=gap)
    if no_fit:
        return Measure(value=None, missing=Missing.NO_CALIBRATION)
    true, predicted = pooled(contexts)
    fit_true, fit_predicted = pooled(fitted)
    if len(fit_true) == 0:
        return Measure(value=None, missing=Missing.NO_CALIBRATION)
    line = least_squares(fit_predicted, fit_true)
    return _measure(explained_variance(true, line.apply(predicted)), Missing.CONSTANT_TRUTH)


def _answered(
    simulated: Sequence[SimulatedRecord],
) -> tuple[list[SimulatedContext], Missing | None]:
    """Contexts that were answered, without tokens that failed alone; or why they are too few."""
    answered = [(s.record, s.outcome.value) for s in simulated if isinstance(s.outcome, Answer)]
    contexts = []
    for record, simulation in answered:
        pairs = zip(record.activations, simulation.values, strict=True)
        kept = [(true, value) for true, value in pairs if value is not None]
        contexts.append(
            SimulatedContext(true=tuple(t for t, _ in kept), predicted=tuple(v for _, v in kept))
        )
    return contexts, missing_for_coverage(n=len(simulated), n_ok=len(answered))


def _measure(value: float, why_not: Missing | None) -> Measure:
    if math.isfinite(value):
        return Measure(value=value)
    return Measure(value=None, missing=why_not or Missing.NOT_APPLICABLE)


def _offline(values: tuple[float, ...], judge: str) -> Simulation:
    return Simulation(
        values=values, mode=SimulationMode.TOKEN_LOOKUP, scale_top=10, mass=None, judge=judge
    )


def _lookup_verdict(context: JudgedContext, lookup: TokenLookup, top: float) -> Verdict:
    values = lookup.predict(context.record.tokens)
    if context.marked is None:
        value = max(values, default=0.0)
    else:
        value = min((values[i] for i in context.marked), default=0.0)
    share = min(1.0, max(0.0, value / top)) if top > 0 else 0.0
    return Verdict(fires=share >= 0.5, probability=share)
