"""Words of the pages before a run, in both languages: presets, losses, SAEs, memory."""

from collections.abc import Mapping

from pydantic import JsonValue, ValidationError

from app.services.align.costs import PROCESS_BYTES, MemoryParts
from app.services.align.offers import OfferedSae
from app.web import i18n
from app.web.i18n import gettext
from core.domain.align_check import CheckItem, CheckReport
from core.domain.alignment import Method


def preset_title(name: str) -> str:
    """What a preset is called."""
    return {
        "demo": gettext("Demo"),
        "fpo-paper-gemma-2-2b": gettext("The paper, Gemma-2-2B"),
        "fpo-paper-gemma-2-9b": gettext("The paper, Gemma-2-9B"),
        "sft-ultrachat-gemma-2-2b": gettext("UltraChat, Gemma-2-2B"),
        "sft-ultrachat-gemma-2-9b": gettext("UltraChat, Gemma-2-9B"),
    }.get(name, name)


def preset_note(name: str) -> str:
    """What a preset is for."""
    return {
        "demo": gettext("FPO on SmolLM2-135M with the set that ships; minutes on two cores"),
        "fpo-paper-gemma-2-2b": gettext(
            "FPO on UltraFeedback: layer 25, batch 32, Adam; start from its SFT run"
        ),
        "fpo-paper-gemma-2-9b": gettext(
            "FPO on UltraFeedback: layer 41, batch 32, RMSProp; 4 accelerators"
        ),
        "sft-ultrachat-gemma-2-2b": gettext("The stage before the paper's alignment, Adam"),
        "sft-ultrachat-gemma-2-9b": gettext("The same for the larger model, RMSProp"),
    }.get(name, "")


def methods() -> tuple[tuple[str, str, str, str], ...]:
    """Every loss: its name in settings, its name, its u, and what it means."""
    return (
        (
            Method.FPO.value,
            "FPO",
            "u = βΔ(logπ − logπref)/|y| − α(βD_l − sg βD_w)",
            gettext("holds SAE features on the answers near the reference"),
        ),
        (
            Method.DPO.value,
            "DPO",
            "u = β(Δ logπ − Δ logπref)",
            gettext("log-ratios to the reference, nothing held"),
        ),
        (
            Method.SIMPO.value,
            "SimPO",
            "u = βΔ logπ/|y| − γ",
            gettext("length-normalised, without a reference"),
        ),
        (
            Method.TDPO1.value,
            "TDPO1",
            "u = u_DPO − β(S_l − S_w)",
            gettext("DPO with the token KL of both answers"),
        ),
        (
            Method.TDPO2.value,
            "TDPO2",
            "u = u_DPO − α(βS_l − sg βS_w)",
            gettext("TDPO1 with the chosen answer behind a stop-gradient"),
        ),
    )


def memory_parts(memory: MemoryParts) -> tuple[tuple[str, float], ...]:
    """What a process holds, part by part, the largest first; parts of nothing are left out."""
    parts = (
        (gettext("Weights"), memory.weights),
        (gettext("Gradients"), memory.gradients),
        (gettext("Optimiser"), memory.optimizer),
        (gettext("Reference model"), memory.reference),
        (gettext("SAE encoders"), memory.saes),
        (gettext("Activations"), memory.activations),
        (gettext("Process and libraries"), float(PROCESS_BYTES)),
    )
    return tuple(sorted((p for p in parts if p[1]), key=lambda part: -part[1]))


def estimate_lines(result: Mapping[str, JsonValue]) -> tuple[tuple[str, str, str], ...]:
    """What a measurement found: name, value, and on what it rests; empty where it found none."""
    report = _report(result)
    estimate = None if report is None else report.estimate
    if estimate is None:
        return ()
    steps = gettext("%(n)s steps, %(time)s each") % {
        "n": i18n.number(estimate.n_steps),
        "time": _seconds(estimate.seconds_per_step),
    }
    rest = gettext("of it %(reference)s for the reference, %(evaluations)s for evaluations") % {
        "reference": i18n.duration(estimate.seconds_reference),
        "evaluations": i18n.duration(estimate.seconds_evaluations),
    }
    of = gettext("of %(size)s")
    return (
        (gettext("Time"), i18n.duration(estimate.seconds), f"{steps}; {rest}"),
        (
            gettext("Peak memory"),
            i18n.size(estimate.peak_memory_bytes),
            f"{of % {'size': i18n.size(estimate.memory_bytes)}} · {estimate.device}",
        ),
        (
            gettext("Disk"),
            i18n.size(estimate.disk_bytes),
            of % {"size": i18n.size(estimate.disk_free_bytes)},
        ),
        (
            gettext("Speed"),
            gettext("%(n)s tokens/s") % {"n": i18n.significant(estimate.tokens_per_second, 3)},
            gettext("measured losses: %(losses)s")
            % {"losses": ", ".join(i18n.significant(loss, 4) for loss in estimate.losses)},
        ),
    )


def failed_checks(result: Mapping[str, JsonValue]) -> tuple[CheckItem, ...]:
    """What a measurement found wrong."""
    report = _report(result)
    return () if report is None else tuple(c for c in report.checks if not c.passed)


def _report(result: Mapping[str, JsonValue]) -> CheckReport | None:
    """A measurement's result; None where another version of Sparsight wrote it."""
    try:
        return CheckReport.model_validate(result.get("report"))
    except ValidationError:
        return None


def _seconds(value: float) -> str:
    if value >= 10:
        return i18n.duration(value)
    return gettext("%(n)s s") % {"n": i18n.significant(value, 2)}


def sae_line(sae: OfferedSae) -> str:
    """An SAE's facts in a line: hook, width, measured quality."""
    card = sae.card
    facts = [card.hook_name, gettext("%(n)s features") % {"n": i18n.number(card.d_sae)}]
    variance = card.record.get("explained_variance")
    if variance is not None:
        facts.append(
            gettext("%(share)s of the variance explained") % {"share": i18n.percent(variance)}
        )
    return " · ".join(facts)
