"""Launching a run: presets, config files, settings checked, and handing them to a worker."""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from app.services.align.checks.report import report
from app.services.align.checks.values import Known, LaunchReport
from app.services.align.costs import ModelSizes, SaeSizes
from app.services.align.data import (
    DataFacts,
    conversation_facts,
    demo_facts,
    is_readable_here,
    pair_facts,
    stored_facts,
)
from app.services.align.offers import OfferedModel, OfferedSae, Offers
from app.services.harvest.harvests import this_machine
from app.services.harvest.source_checks import (
    model_header,
    model_problems,
    sae_header,
    sae_problems,
)
from app.services.harvest.sources import local_path
from app.services.harvest.spec import RESERVED_IDS
from app.services.problems import FieldProblem, FieldsInvalid
from core.db.repositories import jobs
from core.db.session import Session
from core.domain.align_jobs import AlignCheckSpec
from core.domain.align_preset import list_align_presets, load_align_preset
from core.domain.alignment import (
    AlignSpec,
    ConstraintSae,
    DemoPreferences,
    FilePreferences,
    HubPreferences,
    SftSpec,
    StoredPreferences,
)
from core.domain.ids import check_model_id, check_sae_id
from core.domain.job import parse_spec
from core.domain.model import ModelSource
from core.errors import Invalid, NotFound, SparsightError
from core.interchange.toml_text import write_toml
from core.jobs import control

API_PATH = "/api/v1/alignments"
MEASURE_KIND = "align_check"
KINDS: dict[str, type[AlignSpec] | type[SftSpec]] = {"align": AlignSpec, "sft": SftSpec}
_IDS = ("model_id", "aligned_id", "tuned_id")
_PLACEHOLDER = "not-an-id"
# What a validator of the whole says, and the field that mends it.
_PLACES = {
    "fpo needs at least one SAE": "constraint",
    "an SAE is named twice": "constraint",
    "adapters are small enough": "launch.strategy",
    "max_prompt_length leaves no room": "lengths.max_prompt_length",
    "a feature is named twice": "held",
    "others is 0": "held",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignPreset:
    """Settings of a run with a name."""

    name: str
    spec: AlignSpec | SftSpec


def presets(kind: str) -> tuple[AlignPreset, ...]:
    """The presets of a kind that are shipped, the demo first."""
    found = [AlignPreset(name=n, spec=load_align_preset(n)) for n in list_align_presets()]
    return tuple(preset for preset in found if preset.spec.kind == kind)


def get_preset(name: str) -> AlignPreset | None:
    """One shipped preset; None for any other text, however it reads as a path."""
    if name not in list_align_presets():
        return None
    return AlignPreset(name=name, spec=load_align_preset(name))


def check_settings(values: Mapping[str, object]) -> AlignSpec | SftSpec:
    """Settings of a run from JSON-like values; what they name is looked at by ``look``.

    Raises:
        FieldsInvalid: with every problem found, each with its field and a hint.
    """
    kind = KINDS.get(str(values.get("kind", "align")), AlignSpec)
    id_problems = list(_id_problems(values))
    try:
        spec = kind.model_validate(_with_valid_ids(values, id_problems))
    except ValidationError as error:
        raise FieldsInvalid((*id_problems, *_shape_problems(error))) from error
    problems = [*id_problems, *_source_problems(spec)]
    if problems:
        raise FieldsInvalid(tuple(problems))
    return spec


def look(spec: AlignSpec | SftSpec, offers: Offers, *, data_dir: Path) -> LaunchReport:
    """Every fast check of well-formed settings; nothing is loaded."""
    offered = offers.model(offers.start_of(spec.model_id, spec.model) or "")
    entries = spec.constraint if isinstance(spec, AlignSpec) else ()
    picks = {entry.sae_id: _pick(entry, spec.model_id, offers) for entry in entries}
    headers = {entry.sae_id: sae_header(entry.source) for entry in entries}
    known = Known(
        data=_facts(spec, offers, data_dir),
        model=_model_sizes(spec.model, offered),
        context_limit=offered.context_limit if offered else None,
        saes={e.sae_id: s for e in entries if (s := _sae_sizes(e, picks[e.sae_id])) is not None},
        hooks={e.sae_id: _hook_name(e, picks[e.sae_id]) for e in entries},
        architectures={
            name: pick.card.architecture
            if pick
            else (header.architecture or "" if (header := headers[name]) else "")
            for name, pick in picks.items()
        },
        scalings={name: pick.normalize_activations if pick else "" for name, pick in picks.items()},
        strangers=_strangers(spec, offered, picks),
        taken_ids=frozenset(model.model_id for model in offers.models),
        machine=this_machine(data_dir),
    )
    return report(spec, known)


def submit(session: Session, spec: AlignSpec | SftSpec, *, created_by: str | None = None) -> int:
    """Queues a run when the session's transaction commits; the id of its job."""
    return control.submit(session, spec, created_by=created_by)


def measure(session: Session, spec: AlignSpec | SftSpec) -> int:
    """Queues a dry run of a few measured steps; the id of its job."""
    return control.submit(session, AlignCheckSpec(run=spec))


def spec_of_run(session: Session, job_id: int) -> AlignSpec | SftSpec:
    """The settings of an earlier run.

    Raises:
        NotFound: no such job, or it trains nothing.
    """
    spec = parse_spec(jobs.get_spec(session, job_id))
    if not isinstance(spec, AlignSpec | SftSpec):
        raise NotFound(f"Job {job_id} trains nothing.", hint="See the list of runs.")
    return spec


def write_config(values: Mapping[str, JsonValue], form: str) -> str:
    """A run's settings as a file: toml or json."""
    if form == "json":
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    training = values.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    if isinstance(training, dict) and isinstance(optimizer, dict):
        limit = optimizer.get("max_grad_norm")  # TOML has no null, and leaving it out means 10
        optimizer = {**optimizer, "max_grad_norm": math.inf if limit is None else limit}
        values = {**values, "training": {**training, "optimizer": optimizer}}
    return write_toml(values)


def read_config(content: bytes, name: str) -> AlignSpec | SftSpec:
    """A run's settings from an uploaded TOML or JSON file.

    Raises:
        Invalid: the file is neither, or a field is wrong; the message names it.
    """
    try:
        text = content.decode("utf-8-sig")
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (UnicodeDecodeError, ValueError) as error:
        raise Invalid(
            f"{name or 'The file'} is neither TOML nor JSON: {error}.",
            hint="Choose a file that this page wrote, or one like core/presets/align/demo.toml.",
        ) from error
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        raise Invalid(
            f"{name or 'The file'} holds no settings of a run.",
            hint='Its field kind is to be "align" or "sft".',
        )
    return check_settings(_none_for_infinity(values))


def _none_for_infinity(values: dict[str, object]) -> dict[str, object]:
    training = values.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    if not isinstance(training, dict) or not isinstance(optimizer, dict):
        return values
    if optimizer.get("max_grad_norm") != math.inf:
        return values
    return {**values, "training": {**training, "optimizer": {**optimizer, "max_grad_norm": None}}}


def _with_valid_ids(
    values: Mapping[str, object], problems: list[FieldProblem]
) -> dict[str, object]:
    """The values with ids that pass, so that everything else is checked beside them."""
    kept = dict(values)
    for problem in problems:
        if problem.path in _IDS:
            kept[problem.path] = _PLACEHOLDER
    entries = kept.get("constraint")
    if isinstance(entries, list):
        wrong = {problem.path for problem in problems}
        kept["constraint"] = [
            {**entry, "sae_id": f"{_PLACEHOLDER}-{place}"}
            if f"constraint.{place}.sae_id" in wrong
            else entry
            for place, entry in enumerate(entries)
        ]
    return kept


def _id_problems(values: Mapping[str, object]) -> Iterator[FieldProblem]:
    for path in _IDS:
        value = values.get(path)
        if not isinstance(value, str):
            continue
        try:
            check_model_id(value)
        except Invalid as error:
            yield FieldProblem.of(path, error)
        if value in RESERVED_IDS:
            yield FieldProblem(
                path=path, message=f"{value!r} is a word of addresses.", hint="Choose another id."
            )
    entries = values.get("constraint")
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        sae_id = entry.get("sae_id") if isinstance(entry, Mapping) else None
        if isinstance(sae_id, str):
            try:
                check_sae_id(sae_id)
            except Invalid as error:
                yield FieldProblem.of(f"constraint.{place}.sae_id", error)


def _shape_problems(error: ValidationError) -> Iterator[FieldProblem]:
    for detail in error.errors(include_input=False, include_url=False):
        steps = [str(step) for step in detail["loc"]]
        if steps[:1] == ["data"] and len(steps) > 1:
            del steps[1]  # the union's tag, which no field bears
        message = detail["msg"].removeprefix("Value error, ")
        yield FieldProblem(
            path=_place(steps, message),
            message=f"{message[:1].upper()}{message[1:]}.",
            hint="This field is needed." if detail["type"] == "missing" else "",
        )


def _place(steps: list[str], message: str) -> str:
    """The form's field for a place in the settings: lists of features are one field each."""
    if steps[:1] == ["constraint"] and len(steps) > 2 and steps[2] in {"held", "free"}:
        steps = steps[:3]
    for words, field in _PLACES.items():
        if message.startswith(words):
            return ".".join([*steps, field] if field == "held" else [field])
    return ".".join(steps)


def _source_problems(spec: AlignSpec | SftSpec) -> Iterator[FieldProblem]:
    yield from model_problems(spec.model)
    if isinstance(spec, AlignSpec):
        for place, entry in enumerate(spec.constraint):
            yield from sae_problems(entry.source, spec.model, path=f"constraint.{place}.source")


def _facts(
    spec: AlignSpec | SftSpec, offers: Offers, data_dir: Path
) -> DataFacts | SparsightError | None:
    data = spec.data
    try:
        match data:
            case DemoPreferences():
                return demo_facts()
            case StoredPreferences(content_hash=content_hash):
                return stored_facts(data_dir, content_hash, offers.stored_set(content_hash))
            case FilePreferences(path=name, held_out_share=share):
                path = Path(name)
                if not is_readable_here(path):
                    return None
                read = conversation_facts if isinstance(spec, SftSpec) else pair_facts
                return read(path, held_out_share=share)
            case HubPreferences():
                return None
    except SparsightError as error:
        return error


def _model_sizes(source: ModelSource, offered: OfferedModel | None) -> ModelSizes | None:
    if offered and offered.d_model and offered.n_layers and offered.vocab_size:
        return ModelSizes(
            d_model=offered.d_model, n_layers=offered.n_layers, vocab_size=offered.vocab_size
        )
    header = model_header(source)
    if header is None or not (header.d_model and header.n_layers and header.vocab_size):
        return None
    return ModelSizes(
        d_model=header.d_model, n_layers=header.n_layers, vocab_size=header.vocab_size
    )


def _strangers(
    spec: AlignSpec | SftSpec,
    offered: OfferedModel | None,
    picks: Mapping[str, OfferedSae | None],
) -> dict[str, str]:
    """SAEs of another model than the one that trains, or than the one that it came from."""
    own = {spec.model_id} | ({offered.based_on} if offered else set())
    return {
        name: pick.card.model_id
        for name, pick in picks.items()
        if pick is not None and pick.card.model_id not in own
    }


def _pick(entry: ConstraintSae, model_id: str, offers: Offers) -> OfferedSae | None:
    key = offers.pick_of(model_id, entry.sae_id, entry.source)
    return offers.sae(key) if key is not None else None


def _sae_sizes(entry: ConstraintSae, pick: OfferedSae | None) -> SaeSizes | None:
    if pick is not None:
        card = pick.card
        l0 = card.mean_l0 if card.harvest is not None else card.record.get("l0")
        return SaeSizes(sae_id=entry.sae_id, d_in=card.d_in, d_sae=card.d_sae, l0=l0)
    header = sae_header(entry.source)
    if header is None or not (header.d_in and header.d_sae):
        return None
    return SaeSizes(
        sae_id=entry.sae_id,
        d_in=header.d_in,
        d_sae=header.d_sae,
        l0=_recorded_l0(local_path(entry.source.location)),
    )


def _recorded_l0(folder: Path) -> float | None:
    """The L0 that an SAE's folder records of its training, where it does."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        return float(record["held_out"]["l0"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hook_name(entry: ConstraintSae, pick: OfferedSae | None) -> str:
    if pick is not None:
        return pick.card.hook_name
    header = sae_header(entry.source)
    return entry.source.hook_name or (header.hook_name if header else None) or ""
