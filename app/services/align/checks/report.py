"""Every check of a run in one report, with the sizes that they rest on."""

from collections.abc import Sequence

from app.services.align.checks.data import data_checks, length_checks
from app.services.align.checks.model import model_checks, sae_checks
from app.services.align.checks.training import machine_checks, reference_checks, step_checks
from app.services.align.checks.values import Known, LaunchReport
from app.services.align.costs import (
    CHARACTERS_A_TOKEN,
    SaeSizes,
    cache_bytes_a_pair,
    count_steps,
    disk_bytes,
    memory_parts,
)
from app.services.align.data import DataFacts
from core.domain.alignment import AlignSpec, ConstraintSae, SftSpec


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
        *data_checks(spec, known.data),
        *length_checks(spec, facts, known),
        *model_checks(spec, known),
        *(c for place, entry in enumerate(_saes(spec)) for c in sae_checks(entry, place, known)),
        *step_checks(spec, n_steps),
        *reference_checks(spec, cache),
        *machine_checks(spec, memory, disk, cache, known.machine),
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
