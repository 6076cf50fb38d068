"""Checks of a run's data: there, readable, held out in part, short enough."""

from collections.abc import Iterator
from pathlib import Path

from app.services.align.checks.values import Check, Concern, Known, Outcome
from app.services.align.costs import CHARACTERS_A_TOKEN
from app.services.align.data import DataFacts
from core.domain.alignment import AlignSpec, HubPreferences, SftSpec, StoredPreferences
from core.errors import SparsightError


def data_checks(
    spec: AlignSpec | SftSpec, data: DataFacts | SparsightError | None
) -> Iterator[Check]:
    """Whether the data can be read, how many rows it has, and what was refused of it."""
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


def length_checks(
    spec: AlignSpec | SftSpec, facts: DataFacts | None, known: Known
) -> Iterator[Check]:
    """Whether the model reads as many tokens as asked, and how many items would be cut."""
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
