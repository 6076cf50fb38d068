"""Everything that is measured of two loaded models; no database, no files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from core.domain.align_jobs import DriftSae
from core.domain.align_results import AlignedRows, DriftSaeResult, PlaceValues, StoredPart
from core.domain.alignment import ConstraintSae
from core.domain.views_drift import Place, Treatment
from core.errors import Invalid
from worker.align.data.answers import read_answers
from worker.align.data.pairs import TokenPair, chunks
from worker.drift.contexts import ContextReader
from worker.drift.keeper import Keeper, below, within
from worker.drift.places import PlaceSums
from worker.lm.load import LoadedModel
from worker.sae.model import SparseAutoencoder

ReadTokens = Callable[[int, Sequence[int]], Mapping[int, Int32[np.ndarray, " pos"]]]
Told = Callable[[int, int, str, str], None]  # done, total, unit, phase; may raise Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSubject:
    """Two models and the SAEs through which they are compared.

    Attributes:
        entries: what was asked for of each SAE.
        stored: the rows that a harvest keeps of each SAE; None without a harvest.
    """

    base: LoadedModel
    aligned: LoadedModel
    entries: tuple[DriftSae, ...]
    saes: tuple[SparseAutoencoder, ...]
    stored: tuple[StoredPart | None, ...]


def measure(
    subject: DriftSubject,
    pairs: Sequence[TokenPair],
    *,
    constraint: Sequence[ConstraintSae],
    batch_pairs: int,
    batch_contexts: int,
    read_tokens: ReadTokens,
    told: Told,
    keeper: Keeper,
) -> list[DriftSaeResult]:
    """What became of every feature, in the order of the SAEs.

    Raises:
        Invalid: activations that are not finite.
    """
    if not subject.saes:
        return []
    answers = read_places(subject, pairs, batch=batch_pairs, told=told, keeper=keeper)
    corpus = _read_harvests(subject, batch_contexts, read_tokens, told, keeper=keeper)
    treated = {entry.sae_id: entry for entry in constraint}
    results = []
    for entry, sae, stored, places, reread in zip(
        subject.entries, subject.saes, subject.stored, answers, corpus, strict=True
    ):
        found = {place: sums.values() for place, sums in places.items()}
        rows: AlignedRows | None = None
        if reread is not None:
            sums, rows = reread
            if sums is not None:
                found[Place.CORPUS] = sums.values()
        _check_finite(entry.sae_id, found)
        results.append(
            DriftSaeResult(
                sae_id=entry.sae_id,
                revision=sae.info.revision,
                hook_name=sae.info.hook_name,
                layer=sae.info.layer,
                part_id=None if stored is None else stored.part_id,
                places=found,
                treatment=treatments(treated.get(entry.sae_id), sae.info.d_sae),
                rows=rows,
            )
        )
    return results


def read_places(
    subject: DriftSubject,
    pairs: Sequence[TokenPair],
    *,
    batch: int,
    told: Told,
    keeper: Keeper,
) -> list[dict[Place, PlaceSums]]:
    """Chosen and rejected answers through both models, for each SAE."""
    sums = [
        {place: PlaceSums(sae, by_item=True) for place in (Place.CHOSEN, Place.REJECTED)}
        for sae in subject.saes
    ]
    kept = keeper.load("answers")
    if kept is not None:
        for number, into in enumerate(sums):
            for place, part in into.items():
                part.restore(below(f"{number}.{place.value}", kept))
        return sums
    hooks = list(dict.fromkeys(sae.info.hook_name for sae in subject.saes))
    done = 0
    for places in chunks(range(len(pairs)), batch):
        told(done, len(pairs), "pairs", "answers")
        some = [pairs[i] for i in places]
        base = read_answers(subject.base, some, hooks)
        aligned = read_answers(subject.aligned, some, hooks)
        n = base.n_pairs
        sides = (
            (Place.CHOSEN, slice(0, base.n_chosen), base.sizes[:n]),
            (Place.REJECTED, slice(base.n_chosen, None), base.sizes[n:]),
        )
        for sae, into in zip(subject.saes, sums, strict=True):
            hook = sae.info.hook_name
            for place, rows, sizes in sides:
                into[place].add(base.streams[hook][rows], aligned.streams[hook][rows], sizes)
        done += len(some)
    told(done, len(pairs), "pairs", "answers")
    states = [
        within(f"{number}.{place.value}", part.state())
        for number, into in enumerate(sums)
        for place, part in into.items()
    ]
    keeper.save("answers", {name: value for state in states for name, value in state.items()})
    return sums


def treatments(entry: ConstraintSae | None, d_sae: int) -> tuple[Treatment, ...]:
    """How a run treated each feature of an SAE."""
    if entry is None:
        return (Treatment.NONE,) * d_sae
    found = [Treatment.OTHER if entry.others > 0 else Treatment.FREE] * d_sae
    for held in entry.held:
        found[held.feature] = Treatment.HELD
    for feature in entry.free:
        found[feature] = Treatment.FREE
    return tuple(found)


def _read_harvests(
    subject: DriftSubject,
    batch: int,
    read_tokens: ReadTokens,
    told: Told,
    *,
    keeper: Keeper,
) -> list[tuple[PlaceSums | None, AlignedRows] | None]:
    """The stored contexts of each harvest once, whatever the number of its SAEs."""
    found: list[tuple[PlaceSums | None, AlignedRows] | None] = [None] * len(subject.saes)
    ids = [
        entry.harvest_id if stored is not None else None
        for entry, stored in zip(subject.entries, subject.stored, strict=True)
    ]
    for harvest_id in dict.fromkeys(one for one in ids if one is not None):
        members = [place for place, one in enumerate(ids) if one == harvest_id]
        parts = [
            (subject.saes[place], stored)
            for place in members
            if (stored := subject.stored[place]) is not None
        ]
        reader = ContextReader(
            base=subject.base,
            aligned=subject.aligned,
            parts=parts,
            read_tokens=_tokens_of(harvest_id, read_tokens),
            batch=batch,
        )
        total = len(reader.numbers)
        told(0, total, "contexts", "contexts")
        reread = reader.read(_after(total, told), keeper=keeper, name=f"contexts-{harvest_id}")
        for place, (_, stored), result in zip(members, parts, reread, strict=True):
            sampled = len(stored.random_contexts) > 0
            found[place] = (result.corpus if sampled else None, result.rows)
    return found


def _tokens_of(
    harvest_id: int, read_tokens: ReadTokens
) -> Callable[[Sequence[int]], Mapping[int, Int32[np.ndarray, " pos"]]]:
    def read(numbers: Sequence[int]) -> Mapping[int, Int32[np.ndarray, " pos"]]:
        return read_tokens(harvest_id, numbers)

    return read


def _after(total: int, told: Told) -> Callable[[int], None]:
    def tell(done: int) -> None:
        told(done, total, "contexts", "contexts")

    return tell


def _check_finite(sae_id: str, places: Mapping[Place, PlaceValues]) -> None:
    for values in places.values():
        if not (np.isfinite(values.base_mean).all() and np.isfinite(values.aligned_mean).all()):
            raise Invalid(
                f"Activations of {sae_id} are not finite.",
                hint="Measure in float32, and see whether the run has diverged.",
            )
