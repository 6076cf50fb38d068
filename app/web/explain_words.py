"""Words of explanations and scores: methods, styles, kinds, metrics, failures."""

from typing import assert_never

from app.web.i18n import gettext
from core.domain.explanation import (
    EvidenceStyle,
    ExplanationMethod,
    FailureCode,
    Floor,
    Metric,
    Missing,
    ScoreKind,
    SimulationMode,
)


def method_word(value: ExplanationMethod) -> str:
    """How an explanation came about."""
    match value:
        case ExplanationMethod.LLM:
            return gettext("language model")
        case ExplanationMethod.TOKEN_LOOKUP:
            return gettext("token lookup (baseline)")
        case ExplanationMethod.HUMAN:
            return gettext("person")
        case ExplanationMethod.IMPORTED:
            return gettext("imported")
        case _:
            assert_never(value)


def style_word(value: EvidenceStyle) -> str:
    """What an explainer was shown."""
    match value:
        case EvidenceStyle.RECORDS:
            return gettext("tokens with activations")
        case EvidenceStyle.HIGHLIGHTS:
            return gettext("highlighted contexts")
        case EvidenceStyle.TOKENS_AND_LOGITS:
            return gettext("top tokens and logits")
        case _:
            assert_never(value)


def kind_word(value: ScoreKind) -> str:
    """By what an explanation is tested."""
    match value:
        case ScoreKind.SIMULATION:
            return gettext("simulation")
        case ScoreKind.DETECTION:
            return gettext("detection")
        case ScoreKind.FUZZING:
            return gettext("fuzzing")
        case ScoreKind.EMBEDDING:
            return gettext("embedding")
        case _:
            assert_never(value)


def mode_word(value: SimulationMode) -> str:
    """How activations were simulated."""
    match value:
        case SimulationMode.ALL_AT_ONCE:
            return gettext("all tokens at once")
        case SimulationMode.ONE_AT_A_TIME:
            return gettext("one token at a time")
        case SimulationMode.SCHEMA:
            return gettext("by a JSON schema")
        case SimulationMode.TOKEN_LOOKUP:
            return gettext("token lookup (baseline)")
        case _:
            assert_never(value)


def metric_word(value: Metric) -> str:
    """One number of a score."""
    match value:
        case Metric.TOP_AND_RANDOM:
            return gettext("correlation, top and random")
        case Metric.RANDOM_ONLY:
            return gettext("correlation, random only")
        case Metric.CALIBRATED_R2:
            return gettext("calibrated R²")
        case Metric.BALANCED_ACCURACY:
            return gettext("balanced accuracy")
        case Metric.F1:
            return "F1"
        case Metric.PRECISION:
            return gettext("precision")
        case Metric.RECALL:
            return gettext("recall")
        case Metric.AUROC:
            return "AUROC"
        case _:
            assert_never(value)


def short_metric_word(value: Metric) -> str:
    """One number of a score where the kind of score stands beside it."""
    match value:
        case Metric.TOP_AND_RANDOM:
            return gettext("correlation")
        case Metric.RANDOM_ONLY:
            return gettext("random only")
        case Metric.CALIBRATED_R2:
            return gettext("calibrated R²")
        case _:
            return metric_word(value)


def floor_word(value: Floor) -> str:
    """What a score must beat."""
    match value:
        case Floor.SHUFFLED:
            return gettext("shuffled explanation")
        case Floor.TOKEN_LOOKUP:
            return gettext("token lookup")
        case Floor.CONSTANT:
            return gettext("constant")
        case _:
            assert_never(value)


def missing_word(value: Missing) -> str:
    """Why a metric has no value."""
    match value:
        case Missing.LOW_COVERAGE:
            return gettext("fewer than four in five answered")
        case Missing.NOTHING_ANSWERED:
            return gettext("nothing answered")
        case Missing.CONSTANT_PREDICTION:
            return gettext("the prediction is constant")
        case Missing.CONSTANT_TRUTH:
            return gettext("the activations are constant")
        case Missing.ONE_CLASS:
            return gettext("only firing, or only silent, contexts")
        case Missing.NO_PROBABILITIES:
            return gettext("no probabilities")
        case Missing.NO_CALIBRATION:
            return gettext("no contexts to calibrate on")
        case Missing.NOTHING_POSITIVE:
            return gettext("nothing said to fire")
        case Missing.NOT_APPLICABLE:
            return gettext("does not apply")
        case _:
            assert_never(value)


def failure_word(code: str) -> str:
    """What kind of trouble a code of a failed request, explanation or score names."""
    return {
        FailureCode.RATE_LIMIT: gettext("The server limits the rate"),
        FailureCode.QUOTA: gettext("The provider's quota is used up"),
        FailureCode.TIMEOUT: gettext("The server took too long"),
        FailureCode.CONNECTION: gettext("The connection failed"),
        FailureCode.SERVER: gettext("The server failed"),
        FailureCode.AUTH: gettext("The key was refused"),
        FailureCode.BAD_REQUEST: gettext("The server refused the request"),
        FailureCode.CONTEXT_LENGTH: gettext("The prompt is too long for the model"),
        FailureCode.CONTENT_FILTER: gettext("The provider's filter stopped the answer"),
        FailureCode.REFUSAL: gettext("The model refused to answer"),
        FailureCode.LENGTH: gettext("The answer was cut at its limit"),
        FailureCode.PARSE: gettext("The answer cannot be read"),
        FailureCode.COUNT: gettext("The answer has a wrong number of items"),
        FailureCode.NO_LOGPROBS: gettext("The server left log-probabilities out"),
        FailureCode.NO_DIGITS: gettext("No number among the likeliest tokens"),
        FailureCode.BUDGET: gettext("The budget is used up"),
        FailureCode.OFFLINE: gettext("No endpoint may be asked"),
        FailureCode.CANCELLED: gettext("The request was cancelled"),
        FailureCode.UNSUPPORTED: gettext("The server cannot do this"),
        "invalid": gettext("The feature cannot be explained or scored"),
        "not_found": gettext("Something named does not exist"),
        "llm_unsupported": gettext("The endpoint lacks an ability"),
        "endpoint_stopped": gettext("The endpoint answers nothing more"),
    }.get(code, code.replace("_", " "))


def failure_hint(code: str) -> str:
    """What helps against a trouble; empty where nothing is known to help."""
    return {
        FailureCode.RATE_LIMIT: gettext("Lower the endpoint's concurrency, then resume."),
        FailureCode.QUOTA: gettext("Add credit at the provider, then resume."),
        FailureCode.TIMEOUT: gettext("Raise the endpoint's time-out or lower its concurrency."),
        FailureCode.CONNECTION: gettext("Is the server still running? Test the connection."),
        FailureCode.SERVER: gettext("Look into the server's log."),
        FailureCode.AUTH: gettext("Enter the endpoint's key again."),
        FailureCode.BAD_REQUEST: gettext(
            "Look at the sampling and token settings of the endpoint."
        ),
        FailureCode.CONTEXT_LENGTH: gettext(
            "Show fewer contexts, or serve the model with a longer context."
        ),
        FailureCode.CONTENT_FILTER: gettext("Use a model without a filter."),
        FailureCode.REFUSAL: gettext("Try another model or style."),
        FailureCode.LENGTH: gettext("Give reasoning models extra tokens in the endpoint."),
        FailureCode.PARSE: gettext("The model is too weak for this form; try another mode."),
        FailureCode.COUNT: gettext("The model is too weak for this form; try another mode."),
        FailureCode.NO_LOGPROBS: gettext("Test the connection anew, then choose another mode."),
        FailureCode.NO_DIGITS: gettext("The model does not keep to numbers; try another mode."),
        FailureCode.BUDGET: gettext("Raise the budget, then resume."),
        FailureCode.UNSUPPORTED: gettext("Test the connection anew, then choose another mode."),
        "invalid": gettext("It fires on too few distinct contexts; harvest more text."),
        "llm_unsupported": gettext("Test the connection anew, then choose another mode."),
        "endpoint_stopped": gettext("Test the connection, then resume."),
    }.get(code, "")
