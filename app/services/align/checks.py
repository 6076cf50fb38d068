"""Fast checks of a run before it is submitted: everything that can be known without loading it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.services.align.costs import (
    CHARACTERS_A_TOKEN,
    MemoryParts,
    ModelSizes,
    SaeSizes,
    cache_bytes_a_pair,
    count_steps,
    disk_bytes,
    memory_parts,
)
from app.services.align.data import DataFacts
from app.services.harvest.estimate import Machine
from core.domain.alignment import (
    AlignSpec,
    ConstraintSae,
    HubPreferences,
    SftSpec,
    StoredPreferences,
)
from core.domain.hook import HookName
from core.errors import HookUnknown, SparsightError

_WITHOUT_SCALING = ("none", "")
_HOLDABLE = ("relu", "standard", "jumprelu", "topk", "batchtopk")


class Concern(StrEnum):
    """What is looked at."""

    DATA = "data"
    REFUSED = "refused"
    HELD_OUT = "held_out"
    LENGTHS = "lengths"
    MODEL = "model"
    CONTEXT = "context"
    RESULT_ID = "result_id"
    SAE = "sae"
    STRANGER = "stranger"
    HOOK = "hook"
    FEATURES = "features"
    STEPS = "steps"
    WARMUP = "warmup"
    BATCH = "batch"
    REFERENCE = "reference"
    CACHE = "cache"
    MEMORY = "memory"
    DISK = "disk"


class Outcome(StrEnum):
    """What a look found."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"  # the run would fail: it is not submitted
    UNKNOWN = "unknown"  # only the run itself can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One look at a run's settings.

    Attributes:
        path: dotted place of the field that mends it; empty for the whole.
        subject: id or name of what was looked at.
        numbers: what was found, by names that the words of the check use.
        text: a message of a reader of files, where one speaks for itself.
    """

    name: Concern
    outcome: Outcome
    path: str = ""
    subject: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was found about a run's parts; None where nothing could be.

    Attributes:
        data: facts of the data, or why they cannot be read, or None where only the run can tell.
        context_limit: tokens that the model reads at most.
        saes: sizes by SAE id.
        hooks: hook point by SAE id.
        architectures, scalings: of each SAE, by its id.
        strangers: SAEs that are known for another model, with that model's id.
        taken_ids: ids of models that there are.
    """

    data: DataFacts | SparsightError | None
    model: ModelSizes | None
    context_limit: int | None
    saes: Mapping[str, SaeSizes]
    hooks: Mapping[str, str]
    architectures: Mapping[str, str]
    scalings: Mapping[str, str]
    strangers: Mapping[str, str]
    taken_ids: frozenset[str]
    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchReport:
    """Every check of a run, and the sizes that they rest on.

    Attributes:
        n_steps, n_items: None while the data are unknown.
        cache_bytes: at most; None where an SAE's L0 or the data are unknown.
    """

    checks: tuple[Check, ...]
    n_steps: int | None
    n_items: int | None
    memory: MemoryParts | None
    cache_bytes: float | None
    disk_bytes: float | None
    machine: Machine

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that keep the run from being submitted."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    def count(self, outcome: Outcome) -> int:
        """Checks of an outcome."""
        return sum(check.outcome == outcome for check in self.checks)


def report(spec: AlignSpec | SftSpec, known: Known) -> LaunchReport:
    """Every check of well-formed settings."""
    facts = known.data if isinstance(known.data, DataFacts) else None
    n_items = None if facts is None else _items(spec, facts)
    n_steps = count_steps(n_items, spec.training) if n_items else None
    saes = _sizes(spec, known)
    memory = None
    if known.model is not None and saes is not None:
        longest = None if facts is None else _longest_tokens(facts)
        memory = memory_parts(spec, known.model, saes, longest=longest)
    cache = _cache(spec, facts, saes, n_items)
    disk = disk_bytes(spec, known.model) if known.model is not None else None
    checks = (
        *_data_checks(spec, known.data),
        *_length_checks(spec, facts, known),
        *_model_checks(spec, known),
        *(c for place, entry in enumerate(_saes(spec)) for c in _sae_checks(entry, place, known)),
        *_step_checks(spec, n_steps),
        *_reference_checks(spec, cache),
        *_machine_checks(spec, memory, disk, cache, known.machine),
    )
    return LaunchReport(
        checks=checks,
        n_steps=n_steps,
        n_items=n_items,
        memory=memory,
        cache_bytes=cache,
        disk_bytes=disk,
        machine=known.machine,
    )


def _items(spec: AlignSpec | SftSpec, facts: DataFacts) -> int:
    limit = spec.max_pairs if isinstance(spec, AlignSpec) else spec.max_conversations
    return facts.n_train if limit is None else min(limit, facts.n_train)


def _longest_tokens(facts: DataFacts) -> float | None:
    characters = facts.prompt_characters + facts.answer_characters
    return float(characters.max()) / CHARACTERS_A_TOKEN if len(characters) else None


def _saes(spec: AlignSpec | SftSpec) -> tuple[ConstraintSae, ...]:
    return spec.constraint if isinstance(spec, AlignSpec) else ()


def _sizes(spec: AlignSpec | SftSpec, known: Known) -> list[SaeSizes] | None:
    found = [known.saes.get(entry.sae_id) for entry in _saes(spec)]
    sizes = [one for one in found if one is not None]
    return sizes if len(sizes) == len(found) else None


def _cache(
    spec: AlignSpec | SftSpec,
    facts: DataFacts | None,
    saes: Sequence[SaeSizes] | None,
    n_items: int | None,
) -> float | None:
    """Bytes of the reference cache at most; training and held-out pairs both have a place."""
    if not isinstance(spec, AlignSpec) or facts is None or saes is None or not n_items:
        return None
    if not len(facts.answer_characters):
        return None
    tokens = float(facts.answer_characters[:n_items].mean()) / CHARACTERS_A_TOKEN
    each = cache_bytes_a_pair(saes, min(tokens, spec.lengths.max_length))
    held_out = min(facts.n_held_out, spec.training.max_eval)
    return None if each is None else each * (n_items + held_out)


def _data_checks(
    spec: AlignSpec | SftSpec, data: DataFacts | SparsightError | None
) -> Iterator[Check]:
    path = _data_path(spec)
    if data is None:
        yield Check(name=Concern.DATA, outcome=Outcome.UNKNOWN, path=path, subject=_data(spec))
        return
    if isinstance(data, SparsightError):
        yield Check(
            name=Concern.DATA,
            outcome=Outcome.FAILED,
            path=path,
            subject=_data(spec),
            text=f"{data.message} {data.hint}".strip(),
        )
        return
    numbers = {"rows": data.n_rows, "train": data.n_train, "held_out": data.n_held_out}
    outcome = Outcome.PASSED if data.n_train else Outcome.FAILED
    yield Check(name=Concern.DATA, outcome=outcome, path=path, subject=_data(spec), numbers=numbers)
    if data.n_rejected:
        first = data.first_rejected
        yield Check(
            name=Concern.REFUSED,
            outcome=Outcome.WARNING,
            path=path,
            numbers={
                "rejected": data.n_rejected,
                "rows": data.n_rows,
                "row": -1 if first is None else first.row,
            },
            text="" if first is None else first.detail,
        )
    if not data.n_held_out:
        yield Check(name=Concern.HELD_OUT, outcome=Outcome.WARNING, path="data.held_out_share")


def _data_path(spec: AlignSpec | SftSpec) -> str:
    return {"file": "data.path", "hub": "data.name", "stored": "data.content_hash"}.get(
        spec.data.kind, "data.kind"
    )


def _data(spec: AlignSpec | SftSpec) -> str:
    data = spec.data
    if isinstance(data, HubPreferences | StoredPreferences):
        return data.name
    return Path(str(getattr(data, "path", ""))).name


def _length_checks(
    spec: AlignSpec | SftSpec, facts: DataFacts | None, known: Known
) -> Iterator[Check]:
    align = isinstance(spec, AlignSpec)
    longest = spec.lengths.max_length if isinstance(spec, AlignSpec) else spec.max_length
    path = "lengths.max_length" if align else "max_length"
    if known.context_limit is not None and longest > known.context_limit:
        yield Check(
            name=Concern.CONTEXT,
            outcome=Outcome.FAILED,
            path=path,
            numbers={"asked": longest, "limit": known.context_limit},
        )
    if facts is None or not len(facts.answer_characters):
        return
    prompts = facts.prompt_characters / CHARACTERS_A_TOKEN
    if isinstance(spec, AlignSpec):
        prompts = prompts.clip(max=spec.lengths.max_prompt_length)
    total = prompts + facts.answer_characters / CHARACTERS_A_TOKEN
    n_cut = int((total > longest).sum())
    yield Check(
        name=Concern.LENGTHS,
        outcome=Outcome.WARNING if n_cut > 0.1 * len(total) else Outcome.PASSED,
        path=path,
        numbers={
            "cut": n_cut,
            "items": len(total),
            "mean": float(total.mean()),
            "longest": float(total.max()),
            "limit": longest,
        },
    )


def _model_checks(spec: AlignSpec | SftSpec, known: Known) -> Iterator[Check]:
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


def _sae_checks(entry: ConstraintSae, place: int, known: Known) -> Iterator[Check]:
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


def _step_checks(spec: AlignSpec | SftSpec, n_steps: int | None) -> Iterator[Check]:
    training, processes = spec.training, spec.launch.processes
    if n_steps is not None:
        seen = {"steps": n_steps, "batch": training.batch_size, "epochs": training.epochs}
        yield Check(name=Concern.STEPS, outcome=Outcome.PASSED, numbers=seen)
        if training.optimizer.warmup_steps >= n_steps:
            yield Check(
                name=Concern.WARMUP,
                outcome=Outcome.WARNING,
                path="training.optimizer.warmup_steps",
                numbers={"warmup": training.optimizer.warmup_steps, "steps": n_steps},
            )
    share = training.micro_batch_size * processes
    uneven = training.batch_size % share != 0
    yield Check(
        name=Concern.BATCH,
        outcome=Outcome.WARNING if uneven else Outcome.PASSED,
        path="training.micro_batch_size",
        numbers={
            "batch": training.batch_size,
            "micro": training.micro_batch_size,
            "processes": processes,
            "passes": -(-training.batch_size // share),
        },
    )


def _reference_checks(spec: AlignSpec | SftSpec, cache: float | None) -> Iterator[Check]:
    if not isinstance(spec, AlignSpec):
        return
    if spec.needs_online_reference:
        yield Check(
            name=Concern.REFERENCE,
            outcome=Outcome.WARNING,
            path="method",
            subject=spec.method.value.upper(),
        )
    yield Check(
        name=Concern.CACHE,
        outcome=Outcome.UNKNOWN if cache is None else Outcome.PASSED,
        numbers={} if cache is None else {"bytes": cache},
    )


def _machine_checks(
    spec: AlignSpec | SftSpec,
    memory: MemoryParts | None,
    disk: float | None,
    cache: float | None,
    machine: Machine,
) -> Iterator[Check]:
    if memory is None:
        yield Check(name=Concern.MEMORY, outcome=Outcome.UNKNOWN)
    else:
        here = spec.device in {"auto", "cpu"}
        # Processes of one machine share its memory; an accelerator's own is not seen from here.
        needed = memory.total * (spec.launch.processes if here else 1)
        short = here and needed > machine.memory_bytes
        yield Check(
            name=Concern.MEMORY,
            outcome=Outcome.WARNING if short else Outcome.PASSED,
            path="training.micro_batch_size",
            subject="" if here else spec.device,
            numbers={"bytes": needed, "free": machine.memory_bytes},
        )
    if disk is not None:
        total = disk + (cache or 0.0)
        yield Check(
            name=Concern.DISK,
            outcome=Outcome.WARNING if total > machine.disk_bytes else Outcome.PASSED,
            path="training.keep_checkpoints",
            numbers={"bytes": total, "free": machine.disk_bytes},
        )
