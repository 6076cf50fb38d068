"""Words of data that is not text of ours: states, phases, units, qualities, in both languages."""

import json
from typing import assert_never

from pydantic import JsonValue

from app.services.harvest.estimate import Basis
from app.web.i18n import gettext, percent, significant
from core.domain.alignment import DemoPreferences, PreferenceSource, method_name, preference_name
from core.domain.job import JobState


def state(name: str) -> JobState:
    """A state by its name."""
    return JobState(name)


def state_word(value: JobState) -> str:
    """A job's state in a word."""
    match value:
        case JobState.QUEUED:
            return gettext("queued")
        case JobState.RUNNING:
            return gettext("running")
        case JobState.CANCELLING:
            return gettext("stopping")
        case JobState.CANCELLED:
            return gettext("stopped")
        case JobState.PAUSED:
            return gettext("paused")
        case JobState.FAILED:
            return gettext("failed")
        case JobState.SUCCEEDED:
            return gettext("finished")
        case _:
            assert_never(value)


def state_tone(value: JobState) -> str:
    """The colour of a state: a class of the stylesheet."""
    match value:
        case JobState.RUNNING:
            return "accent"
        case JobState.SUCCEEDED:
            return "good"
        case JobState.FAILED:
            return "bad"
        case JobState.CANCELLING | JobState.PAUSED:
            return "warn"
        case JobState.QUEUED | JobState.CANCELLED:
            return ""
        case _:
            assert_never(value)


def method_word(method: str) -> str:
    """A run's method as people write it."""
    return method_name(method)


def unit_word(unit: str) -> str:
    """What a job counts, plural."""
    return {
        "contexts": gettext("contexts"),
        "tokens": gettext("tokens"),
        "features": gettext("features"),
        "documents": gettext("documents"),
        "shards": gettext("shards"),
        "bytes": gettext("bytes"),
        "items": gettext("items"),
        "models": gettext("models"),
        "SAEs": gettext("SAEs"),
        "steps": gettext("steps"),
        "pairs": gettext("pairs"),
        "rows": gettext("rows"),
        "prompts": gettext("prompts"),
        "checks": gettext("checks"),
        "explanations": gettext("explanations"),
        "scores": gettext("scores"),
    }.get(unit, unit)


def phase_word(phase: str) -> str:
    """What a job does now; a phase without a translation stays as it is."""
    return {
        "loading": gettext("loading"),
        "reading the corpus": gettext("reading the corpus"),
        "harvesting": gettext("harvesting"),
        "neighbours": gettext("neighbours"),
        "publishing": gettext("publishing"),
        "reference": gettext("computing the reference"),
        "training": gettext("training"),
        "fetching": gettext("fetching rows"),
        "reading": gettext("reading answers"),
        "answers": gettext("reading answers"),
        "contexts": gettext("reading contexts again"),
        "samples": gettext("writing samples"),
        "data": gettext("reading the data"),
        "model": gettext("loading the model"),
        "saes": gettext("loading SAEs"),
        "lengths": gettext("counting tokens"),
        "disk": gettext("looking at the disk"),
        "memory": gettext("looking at the memory"),
        "steps": gettext("measuring steps"),
        "explaining": gettext("explaining"),
        "choosing": gettext("choosing the best samples"),
        "scoring": gettext("scoring"),
    }.get(phase, phase)


def quality_word(name: str) -> str:
    """A measure of an SAE's quality."""
    return {
        "l0": gettext("L0"),
        "explained_variance": gettext("explained variance"),
        "ce_recovered": gettext("CE recovered"),
        "dead_share": gettext("dead"),
    }.get(name, name.replace("_", " "))


def basis_word(basis: Basis) -> str:
    """On what a number of an estimate rests."""
    match basis:
        case Basis.GIVEN:
            return gettext("from the settings")
        case Basis.MEASURED:
            return gettext("measured in earlier harvests here")
        case Basis.FILES:
            return gettext("from the files")
        case Basis.CATALOG:
            return gettext("from an earlier harvest of the same model")
        case Basis.ASSUMED:
            return gettext("assumed")
        case Basis.UNKNOWN:
            return gettext("not known before it runs")
        case _:
            assert_never(basis)


def error_word(code: str) -> str:
    """What kind of failure a code names."""
    return {
        "not_found": gettext("Something named does not exist"),
        "invalid": gettext("A setting is not valid"),
        "sae_mismatch": gettext("The SAE does not fit the model"),
        "hook_unknown": gettext("The model has no such hook point"),
        "corpus_empty": gettext("The corpus holds no text"),
        "corpus_unreadable": gettext("The corpus cannot be read"),
        "download_failed": gettext("A download failed"),
        "out_of_memory": gettext("Memory ran out"),
        "disk_full": gettext("The disk is full"),
        "model_missing": gettext("A model or SAE is not where it should be"),
        "database_unavailable": gettext("The database does not answer"),
        "training_diverged": gettext("Training diverged"),
        "conflict": gettext("Something else is in the way"),
        "cancelled": gettext("Somebody asked to stop"),
        "worker_lost": gettext("The worker was lost"),
        "runner_killed": gettext("The process was killed"),
        "runner_crashed": gettext("The process crashed"),
        "budget": gettext("The budget is used up"),
        "endpoint_stopped": gettext("The endpoint answers nothing more"),
        "llm_unavailable": gettext("The endpoint does not answer"),
        "answer_unparsable": gettext("An answer cannot be read"),
        "external_error": gettext("Another service does not answer"),
        "rate_limited": gettext("Too many requests"),
        "permission_denied": gettext("This is not allowed"),
        "input_error": gettext("Something in the request is wrong"),
        "resource_error": gettext("This machine lacks something"),
        "port_taken": gettext("The port is taken"),
        "claim_lost": gettext("Another attempt has taken the job over"),
        "paused": gettext("The job waits until somebody resumes it"),
        "llm_unsupported": gettext("The endpoint lacks an ability"),
    }.get(code, gettext("The job failed"))


def data_name(source: PreferenceSource) -> str:
    """What a run's data are called."""
    if isinstance(source, DemoPreferences):
        return gettext("demo preferences")
    return preference_name(source)


def signed(value: float, digits: int = 3) -> str:
    """A change, with its sign.

    >>> signed(0.1834), signed(-1.31), signed(0.0)
    ('+0.183', '−1.31', '0')
    """
    return f"{'+' if value > 0 else ''}{significant(value, digits)}"


def setting(value: JsonValue, most: int = 60) -> str:
    """A setting as it stands in a table; a long one is cut.

    >>> setting(None), setting("fpo"), setting([1, 2]), setting(5e-07)
    ('–', 'fpo', '[1, 2]', '5e-07')
    """
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def signed_percent(share: float, digits: int = 2) -> str:
    """A change of a share, with its sign.

    >>> signed_percent(0.0123), signed_percent(-0.5), signed_percent(0.0)
    ('+1.2%', '−50%', '0%')
    """
    sign = "+" if share > 0 else "−" if share < 0 else ""
    return sign + percent(abs(share), digits)
