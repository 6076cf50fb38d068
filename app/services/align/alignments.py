"""Runs as the API names them: by settings or by a preset with changes, and dry runs' reports.

Launch, lists and numbers are in align_launch and align_runs, drifts in run_drifts and
feature_drifts, which pages use too.
"""

from collections.abc import Mapping
from typing import Any

from app.services.align.launch import MEASURE_KIND, check_settings, get_preset
from core.db.repositories import jobs
from core.db.session import Session
from core.domain.align_check import CheckReport
from core.domain.align_preset import list_align_presets
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.job import JobState
from core.errors import Conflict, Invalid, NotFound


def settings_of(
    spec: Mapping[str, Any] | None, *, preset: str | None, changes: Mapping[str, Any]
) -> AlignSpec | SftSpec:
    """Well-formed settings, from themselves or from a shipped preset with changes.

    Raises:
        Invalid: neither or both are given.
        NotFound: no such preset.
        FieldsInvalid: with every problem found.
    """
    if (spec is None) == (preset is None):
        raise Invalid("Give either spec or preset.", hint="A preset takes changes beside it.")
    if spec is not None:
        return check_settings(_joined(spec, changes))
    found = get_preset(preset or "")
    if found is None:
        raise NotFound(
            f"No preset {preset!r}.", hint=f"There are {', '.join(list_align_presets())}."
        )
    return check_settings(_joined(found.spec.model_dump(mode="json"), changes))


def check_report(session: Session, job_id: int) -> CheckReport:
    """What a dry run found.

    Raises:
        NotFound: no such job, or it is no dry run.
        Conflict: it has not succeeded (yet).
    """
    card = jobs.get_card(session, job_id)
    if card.kind != MEASURE_KIND:
        raise NotFound(f"Job {job_id} is no dry run.", hint="See the list of jobs.")
    if card.state is not JobState.SUCCEEDED or card.result is None:
        raise Conflict(
            f"The dry run is {card.state.value}.",
            hint=card.error_message or "Wait for its end, or resume it.",
        )
    return CheckReport.model_validate(card.result["report"])


def _joined(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with changes in their place; objects in both are joined, all else replaced.

    >>> _joined({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}})
    {'a': {'b': 9, 'c': 2}, 'd': 3}
    """
    joined = dict(values)
    for name, value in changes.items():
        old = joined.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        joined[name] = _joined(old, value) if both and isinstance(old, Mapping) else value
    return joined
