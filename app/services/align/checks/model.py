"""Checks of a run's model, and of the SAEs and features of its constraint."""

from collections.abc import Iterator

from app.services.align.checks.values import Check, Concern, Known, Outcome
from app.services.align.costs import SaeSizes
from core.domain.alignment import AlignSpec, ConstraintSae, SftSpec
from core.domain.hook import HookName
from core.errors import HookUnknown

_WITHOUT_SCALING = ("none", "")
_HOLDABLE = ("relu", "standard", "jumprelu", "topk", "batchtopk")


def model_checks(spec: AlignSpec | SftSpec, known: Known) -> Iterator[Check]:
    """Whether the model is known, and whether the name of the result is free."""
    if known.model is None:
        yield Check(
            name=Concern.MODEL,
            outcome=Outcome.UNKNOWN,
            path="model.location",
            subject=spec.model.location,
        )
    else:
        yield Check(
            name=Concern.MODEL,
            outcome=Outcome.PASSED,
            subject=spec.model_id,
            numbers={"layers": known.model.n_layers, "width": known.model.d_model},
        )
    result, path = (
        (spec.aligned_id, "aligned_id")
        if isinstance(spec, AlignSpec)
        else (spec.tuned_id, "tuned_id")
    )
    if result == spec.model_id:
        yield Check(name=Concern.RESULT_ID, outcome=Outcome.FAILED, path=path, subject=result)
    elif result in known.taken_ids:
        yield Check(name=Concern.RESULT_ID, outcome=Outcome.WARNING, path=path, subject=result)


def sae_checks(entry: ConstraintSae, place: int, known: Known) -> Iterator[Check]:
    """Whether one SAE of the constraint fits the model, its hook and its chosen features."""
    at = f"constraint.{place}"
    sizes = known.saes.get(entry.sae_id)
    if sizes is None:
        yield Check(
            name=Concern.SAE,
            outcome=Outcome.UNKNOWN,
            path=f"{at}.pick",
            subject=entry.sae_id,
        )
        return
    width = known.model.d_model if known.model is not None else None
    fits = width is None or width == sizes.d_in
    yield Check(
        name=Concern.SAE,
        outcome=Outcome.PASSED if fits else Outcome.FAILED,
        path=f"{at}.pick",
        subject=entry.sae_id,
        numbers={"d_in": sizes.d_in, "d_sae": sizes.d_sae, "width": width or 0},
    )
    stranger = known.strangers.get(entry.sae_id)
    if fits and stranger is not None:
        yield Check(
            name=Concern.STRANGER,
            outcome=Outcome.WARNING,
            path=f"{at}.pick",
            subject=stranger,
        )
    yield from _hook_checks(entry, at, known)
    yield from _feature_checks(entry, at, sizes)


def _hook_checks(entry: ConstraintSae, at: str, known: Known) -> Iterator[Check]:
    hook = known.hooks.get(entry.sae_id, "")
    architecture = known.architectures.get(entry.sae_id, "")
    scaling = known.scalings.get(entry.sae_id, "")
    path = f"{at}.pick"
    layers = known.model.n_layers if known.model is not None else None
    try:
        layer = HookName.parse(hook).layer if hook else None
    except HookUnknown as error:
        yield Check(
            name=Concern.HOOK,
            outcome=Outcome.FAILED,
            path=path,
            subject=hook,
            text=f"{error.message} {error.hint}",
        )
        return
    if layer is not None and layers is not None and layer >= layers:
        yield Check(
            name=Concern.HOOK,
            outcome=Outcome.FAILED,
            path=path,
            subject=hook,
            numbers={"layers": layers, "layer": layer},
        )
    if (architecture and architecture not in _HOLDABLE) or scaling not in _WITHOUT_SCALING:
        yield Check(
            name=Concern.SAE,
            outcome=Outcome.FAILED,
            path=path,
            subject=entry.sae_id,
            text=scaling if scaling not in _WITHOUT_SCALING else architecture,
        )


def _feature_checks(entry: ConstraintSae, at: str, sizes: SaeSizes) -> Iterator[Check]:
    named = [*((one.feature, "held") for one in entry.held), *((f, "free") for f in entry.free)]
    beyond = next(((f, name) for f, name in named if f >= sizes.d_sae), None)
    if beyond is not None:
        yield Check(
            name=Concern.FEATURES,
            outcome=Outcome.FAILED,
            path=f"{at}.{beyond[1]}",
            subject=entry.sae_id,
            numbers={"feature": beyond[0], "d_sae": sizes.d_sae},
        )
    if entry.k > sizes.d_sae:
        yield Check(
            name=Concern.FEATURES,
            outcome=Outcome.FAILED,
            path=f"{at}.k",
            subject=entry.sae_id,
            numbers={"k": entry.k, "d_sae": sizes.d_sae},
        )
    elif named and beyond is None:
        yield Check(
            name=Concern.FEATURES,
            outcome=Outcome.PASSED,
            subject=entry.sae_id,
            numbers={"held": len(entry.held), "free": len(entry.free), "others": entry.others},
        )
