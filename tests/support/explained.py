"""Explanations and scores in the database, made by hand: large, failed, hostile."""

from core.db.repositories import explanations, scores
from core.db.repositories.explanations import NewExplanation
from core.db.repositories.scores import NewScore
from core.db.session import Session
from core.domain.activation import Band
from core.domain.explanation import (
    EvidenceStyle,
    Explanation,
    ExplanationMethod,
    Failure,
    FailureCode,
    Floor,
    Interval,
    Measure,
    Metric,
    Missing,
    Score,
    ScoreKind,
    SimulationMode,
)
from core.domain.ids import FeatureId
from core.domain.llm import Message
from core.domain.preference import Role
from core.domain.views_explain import JudgedExample, SimulatedExample

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&amp;",
    "\u202egnirts",
    "a\u200bb",
    "\t",
    "\n",
    "\r",
    "<end>",
    "<|im_end|>",
    "</p></article>",
    "\u2066",
    '\'" onmouseover="alert(1)',
    "{{ 7 * 7 }}",
    "\x00",
    "שלום",
)
HOSTILE_TEXT = '<script>alert(1)</script> \u202e"><img src=x onerror=alert(1)> {{ 7 * 7 }} \u200b'
HOSTILE_MESSAGE = "Neuron <b>1</b>\n<script>alert(1)</script>\t10\n \u202eabc \t0\n\t\n<end>\r\n"


def add_explanation(
    session: Session, feature: FeatureId, *, text: str, method: ExplanationMethod, **more: object
) -> int:
    """An explanation as a model, a person or an import would leave it; its id."""
    made = Explanation(
        text=text,
        method=method,
        author=str(more.pop("author", "scripted")),
        style=EvidenceStyle.RECORDS if method is ExplanationMethod.LLM else None,
        template="explain_records/en/v1/0123456789ab" if method is ExplanationMethod.LLM else "",
    )
    return explanations.add(session, NewExplanation(feature=feature, explanation=made, **more))  # type: ignore[arg-type]  # the caller knows the names


def add_hostile(session: Session, feature: FeatureId) -> tuple[int, int]:
    """An explanation and a score whose every text is hostile; their ids."""
    explanation_id = add_explanation(
        session,
        feature,
        text=HOSTILE_TEXT,
        method=ExplanationMethod.IMPORTED,
        author=HOSTILE_TEXT,
        messages=[Message(role=Role.USER, content=HOSTILE_MESSAGE.replace("\x00", ""))],
    )
    examples = tuple(simulated(i, HOSTILE, failed=i == 1) for i in range(2))
    score = NewScore(explanation_id=explanation_id, score=simulation(), examples=examples)
    score_id = scores.add(session, score)
    return explanation_id, score_id


def simulation(
    value: float | None = 0.71,
    *,
    shuffled: float = 0.05,
    lookup: float = 0.4,
    missing: Missing = Missing.LOW_COVERAGE,
    judge: str = "scripted",
) -> Score:
    """A simulation score with its floors."""
    return Score(
        kind=ScoreKind.SIMULATION,
        metrics={
            Metric.TOP_AND_RANDOM: _measure(value, missing),
            Metric.RANDOM_ONLY: _measure(value, missing),
            Metric.CALIBRATED_R2: _measure(value, missing),
        },
        n=10,
        n_ok=10 if value is not None else 6,
        failures={} if value is not None else {FailureCode.PARSE: 3, FailureCode.TIMEOUT: 1},
        judge=judge,
        mode=SimulationMode.ALL_AT_ONCE,
        template="simulate_text/en/v1/0123456789ab",
        floors={
            Floor.SHUFFLED: _floor(shuffled),
            Floor.TOKEN_LOOKUP: _floor(lookup),
            Floor.CONSTANT: _floor(None),
        },
    )


def simulated(
    index: int, tokens: tuple[str, ...], *, group: str = "top", failed: bool = False
) -> SimulatedExample:
    """A context with a token that failed alone, or one that failed whole."""
    values = tuple(float(i % 11) for i in range(len(tokens)))
    raw = HOSTILE_MESSAGE
    failure = Failure(code=FailureCode.PARSE, message=HOSTILE_TEXT, raw=raw) if failed else None
    return SimulatedExample(
        context_index=index,
        band=Band.TOP if group == "top" else Band.RANDOM,
        group=group,
        tokens=tokens,
        real=tuple(0.7 * value for value in values),
        simulated=None if failed else (*values[:-1], None),
        scale_top=10,
        failure=failure,
    )


def judged(
    index: int, tokens: tuple[str, ...], *, label: bool, verdict: bool | None
) -> JudgedExample:
    """A judged context; without a verdict it failed."""
    lost = Failure(code=FailureCode.REFUSAL, message="The model refused.", raw="I cannot <b>")
    return JudgedExample(
        context_index=index,
        tokens=tokens,
        real=tuple(float(label) * i for i in range(len(tokens))),
        marked=(1,),
        label=label,
        verdict=verdict,
        probability=None if verdict is None else 0.9 if verdict else 0.1,
        failure=lost if verdict is None else None,
    )


def judging(kind: ScoreKind = ScoreKind.FUZZING) -> Score:
    """A score by a judge, with one context that failed."""
    metrics = {m: Measure(value=0.8) for m in (Metric.BALANCED_ACCURACY, Metric.F1)}
    return Score(
        kind=kind,
        metrics={**metrics, Metric.AUROC: Measure(value=None, missing=Missing.NO_PROBABILITIES)},
        n=5,
        n_ok=4,
        failures={FailureCode.REFUSAL: 1},
        judge="scripted",
        template="fuzz/en/v1/0123456789ab",
    )


def _measure(value: float | None, missing: Missing) -> Measure:
    if value is None:
        return Measure(value=None, missing=missing)
    return Measure(value=value, interval=Interval(low=value - 0.1, high=value + 0.1))


def _floor(value: float | None) -> Score:
    return Score(
        kind=ScoreKind.SIMULATION,
        metrics={Metric.TOP_AND_RANDOM: _measure(value, Missing.CONSTANT_PREDICTION)},
        n=10,
        n_ok=10,
        failures={},
        judge="floor",
    )
