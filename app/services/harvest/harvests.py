"""Harvests: presets, settings checked and costed, and handing them to a worker."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.services.harvest.estimate import HarvestEstimate, Machine, estimate_harvest
from app.services.harvest.sizes import past_runs, widths_of
from app.services.harvest.spec import check_spec
from core.db.repositories import catalog, jobs
from core.db.session import Session
from core.domain.harvest import HarvestSpec
from core.domain.preset import list_presets, load_preset
from core.errors import NotFound
from core.jobs import control

_JOBS_LOOKED_AT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Harvest settings with a name."""

    name: str
    spec: HarvestSpec


def presets() -> tuple[Preset, ...]:
    """The presets that are shipped, by name."""
    return tuple(get_preset(name) for name in list_presets())


def get_preset(name: str) -> Preset:
    """One shipped preset; never a file, however it is named.

    Raises:
        NotFound: no such preset.
    """
    if name not in list_presets():
        raise NotFound(f"No preset {name!r}.", hint=f"There are {', '.join(list_presets())}.")
    return Preset(name=name, spec=load_preset(name))


def check(values: Mapping[str, object]) -> HarvestSpec:
    """Harvest settings from JSON-like values (a form's by read_form), local files looked at.

    Raises:
        FieldsInvalid: with every problem found, each with its field and a hint.
    """
    return check_spec(values)


def this_machine(data_dir: Path) -> Machine:
    """What this machine has to offer now."""
    there = next(p for p in (data_dir.resolve(), *data_dir.resolve().parents) if p.exists())
    return Machine(
        n_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().available,
        disk_bytes=shutil.disk_usage(there).free,
    )


def estimate(session: Session, spec: HarvestSpec, *, machine: Machine) -> HarvestEstimate:
    """What a harvest will cost on this machine; formulas: app.services.harvest.estimate."""
    models = catalog.list_models(session)
    known = next((m for m in models if m.model_id == spec.model_id), None)
    return estimate_harvest(
        spec,
        widths=widths_of(spec, known),
        machine=machine,
        runs=past_runs(models, jobs.list_jobs(session, kind="harvest", limit=_JOBS_LOOKED_AT)),
    )


def submit(session: Session, spec: HarvestSpec, *, created_by: str | None = None) -> int:
    """Queues a harvest when the session's transaction commits; the id of its job."""
    return control.submit(session, spec, created_by=created_by)
