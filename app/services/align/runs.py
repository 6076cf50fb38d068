"""Alignment and fine-tuning runs: read, compared, and told as files."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter

from app.services.features import catalog
from app.services.jobs import jobs
from app.services.jobs.metric_history import MOST_POINTS, MetricTable, make_table
from core.db.repositories import job_numbers
from core.db.repositories.homes import homes_by_source
from core.db.session import Session, SessionScope
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.job import EventKind, JobCard, JobPage, JobSlice
from core.domain.place import NEWEST, NewestPlace
from core.errors import Invalid, NotFound

KINDS = ("align", "sft")
MOST_COMPARED = 6
EVALUATED, STEPPED = "eval_loss", "loss"
FOREMOST = (
    "eval_preference_accuracy",
    "eval_probe_kl/forward",
    "eval_probe_kl/reverse",
    "eval_rewards/margins",
    "eval_rewards/accuracies",
    "eval_loss",
)
UNTOLD = ("eval_runtime",)  # says nothing of the model
Numbers = Mapping[str, float]
_SPEC: TypeAdapter[AlignSpec | SftSpec] = TypeAdapter(
    Annotated[AlignSpec | SftSpec, Field(discriminator="kind")]
)


@dataclass(frozen=True, slots=True)
class _ToldFeature:
    sae_id: str
    feature: int
    chosen: float
    rejected: float


@dataclass(frozen=True, slots=True)
class _Told:
    step: int
    features: tuple[_ToldFeature, ...]


_MOVED = TypeAdapter(_Told)
FileForm = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """One run.

    Attributes:
        spec: its settings.
        start: the first evaluation's numbers by name; empty before it.
        evaluated: the newest evaluation's; empty without held-out items.
        stepped: the newest step's; empty before the first.
    """

    job: JobCard
    spec: AlignSpec | SftSpec
    start: Numbers
    evaluated: Numbers
    stepped: Numbers

    @property
    def job_id(self) -> int:
        """Number of its job."""
        return self.job.job_id

    @property
    def result_id(self) -> str:
        """Id of the model that it makes."""
        return self.spec.aligned_id if isinstance(self.spec, AlignSpec) else self.spec.tuned_id

    @property
    def step(self) -> int | None:
        """Steps done; None before the first."""
        return int(self.stepped["step"]) if self.stepped else None

    @property
    def total_steps(self) -> int | None:
        """Steps in all; None while nobody has counted them."""
        progress = self.job.progress
        return progress.total if progress is not None and progress.unit == "steps" else None

    @property
    def sae_ids(self) -> tuple[str, ...]:
        """SAEs whose features it watches."""
        return tuple(s.sae_id for s in getattr(self.spec, "constraint", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFeature:
    """A feature whose mean activation on held-out answers moved, with what it is about.

    Attributes:
        chosen, rejected: policy − reference, in the SAE's units.
        explanation: None where nobody has explained it.
        label: None where nobody has named it.
        peak_token: token at its largest activation; None where it was never harvested.
    """

    sae_id: str
    index: int
    chosen: float
    rejected: float
    explanation: str | None
    peak_token: int | None
    label: str | None = None

    @property
    def largest(self) -> float:
        """The larger of both changes, whatever its sign."""
        return max(abs(self.chosen), abs(self.rejected))


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFeatures:
    """The features that moved most by a step, the largest first."""

    step: int
    features: tuple[MovedFeature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting in which runs differ; one value a run, None where a run has no such setting."""

    path: str
    values: tuple[JsonValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        tables: the numbers of each run over its steps.
        differences: settings that are not the same in all of them.
        finals: names of the numbers of evaluations that any of them has.
    """

    runs: tuple[RunCard, ...]
    tables: tuple[MetricTable, ...]
    differences: tuple[Difference, ...]
    finals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSlice:
    """Runs of one page, the newest first; ``place`` holds the same jobs and its neighbours."""

    runs: tuple[RunCard, ...]
    place: JobSlice


def list_runs(
    session: Session,
    *,
    kind: str | None = None,
    place: NewestPlace = NEWEST,
    limit: int = 50,
) -> RunSlice:
    """One page of runs, the newest first."""
    kinds = KINDS if kind is None else (kind,)
    found = jobs.list_page(session, place=place, kinds=kinds, limit=limit)
    return RunSlice(runs=_cards(session, found.jobs), place=found)


def get_run(session: Session, job_id: int) -> RunCard:
    """One run.

    Raises:
        NotFound: no such job, or it trains nothing.
    """
    return run_of(session, jobs.get_job(session, job_id))


def run_of(session: Session, page: JobPage) -> RunCard:
    """The run behind a job's page.

    Raises:
        NotFound: the job trains nothing.
    """
    if page.card.kind not in KINDS:
        raise NotFound(
            f"Job {page.card.job_id} trains nothing.", hint="See the list of alignment runs."
        )
    (card,) = _cards(session, [page.card])
    return card


def history(
    session: Session, job_id: int, *, after: int = 0, most: int = MOST_POINTS
) -> MetricTable:
    """The numbers of a run over its steps, few enough for a page."""
    events = job_numbers.events_of_kind(session, job_id, EventKind.METRIC, after=after)
    return make_table((event.payload for event in events), most=most)


def feature_homes(session: Session, run: RunCard) -> dict[str, str]:
    """By SAE that a run watches: the model under which its features are known and have pages.

    That is another one where the run started from the result of a run before it.
    """
    if not isinstance(run.spec, AlignSpec):
        return {}
    saes = {entry.sae_id: entry.source for entry in run.spec.constraint}
    return homes_by_source(session, model_id=run.spec.model_id, saes=saes)


def moved_features(
    session: Session, run: RunCard, *, homes: Mapping[str, str]
) -> MovedFeatures | None:
    """The features that moved most by the newest evaluation; None before it.

    Args:
        session: the database.
        run: which one.
        homes: the model under which the features of each SAE that it watches are known.
    """
    found = job_numbers.item_result(session, run.job_id, "moved")
    if found is None:
        return None
    told = _MOVED.validate_python(found)
    known = {
        sae_id: catalog.known_of(
            session,
            model_id=homes.get(sae_id, run.spec.model_id),
            sae_id=sae_id,
            indices=[row.feature for row in told.features if row.sae_id == sae_id],
        )
        for sae_id in dict.fromkeys(row.sae_id for row in told.features)
    }
    features = [
        MovedFeature(
            sae_id=row.sae_id,
            index=row.feature,
            chosen=row.chosen,
            rejected=row.rejected,
            explanation=known[row.sae_id][row.feature].explanation,
            label=known[row.sae_id][row.feature].label,
            peak_token=known[row.sae_id][row.feature].peak_token,
        )
        for row in told.features
    ]
    features.sort(key=lambda feature: feature.largest, reverse=True)
    return MovedFeatures(step=told.step, features=tuple(features))


def compare(session: Session, job_ids: Sequence[int], *, most: int = MOST_POINTS) -> Comparison:
    """Runs side by side, in the order in which they are named.

    Raises:
        Invalid: fewer than two runs, or too many for one page.
        NotFound: no such run.
    """
    wanted = list(dict.fromkeys(job_ids))
    if not 2 <= len(wanted) <= MOST_COMPARED:
        raise Invalid(
            f"{len(wanted)} runs were named.",
            hint=f"Choose from 2 to {MOST_COMPARED} runs in the list.",
        )
    runs = tuple(get_run(session, job_id) for job_id in wanted)
    found = {name for run in runs for name in run.evaluated if name.startswith("eval_")}
    first = [name for name in FOREMOST if name in found]
    finals = [*first, *sorted(found.difference(FOREMOST, UNTOLD))]
    return Comparison(
        runs=runs,
        tables=tuple(history(session, job_id, most=most) for job_id in wanted),
        differences=differences([run.spec.model_dump(mode="json") for run in runs]),
        finals=tuple(finals),
    )


def differences(specs: Sequence[Mapping[str, JsonValue]]) -> tuple[Difference, ...]:
    """Settings in which specs differ, in the order of the first that has them.

    >>> differences([{"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}])
    (Difference(path='a.b', values=(1, 3)),)
    """
    flat = [dict(_leaves(spec)) for spec in specs]
    paths = dict.fromkeys(path for settings in flat for path in settings)
    rows = (Difference(path=p, values=tuple(s.get(p) for s in flat)) for p in paths)
    return tuple(row for row in rows if any(v != row.values[0] for v in row.values))


def metric_file(scope: SessionScope, job_id: int, form: FileForm) -> Iterator[bytes]:
    """Every number of a run, one line a step; all names are columns of the CSV form.

    Raises:
        NotFound: no such run.
    """
    with scope() as session:
        get_run(session, job_id)
        events = job_numbers.events_of_kind(session, job_id, EventKind.METRIC)
    rows = [event.payload for event in events]
    if form == "jsonl":
        return (json.dumps(row).encode() + b"\n" for row in rows)
    return _csv(rows)


def _csv(rows: Sequence[Mapping[str, JsonValue]]) -> Iterator[bytes]:
    names = list(dict.fromkeys(["step", *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(row)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _cards(session: Session, cards: Sequence[JobCard]) -> tuple[RunCard, ...]:
    ids = [card.job_id for card in cards]
    specs = job_numbers.specs(session, ids)
    first = job_numbers.metric_with(session, ids, EVALUATED, newest=False)
    newest = job_numbers.metric_with(session, ids, EVALUATED, newest=True)
    stepped = job_numbers.metric_with(session, ids, STEPPED, newest=True)
    return tuple(
        RunCard(
            job=card,
            spec=_SPEC.validate_python(specs[card.job_id]),
            start=_numbers(first.get(card.job_id)),
            evaluated=_numbers(newest.get(card.job_id)),
            stepped=_numbers(stepped.get(card.job_id)),
        )
        for card in cards
    )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Settings by their dotted path; parts that name an SAE go by its id."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _leaves(inner, f"{path}.{name}".lstrip("."))
        case [{"sae_id": _}, *_]:
            for entry in value:
                yield from _leaves(entry, f"{path}.{entry['sae_id']}")
        case _:
            yield path, value


def _numbers(payload: Mapping[str, JsonValue] | None) -> dict[str, float]:
    return {k: v for k, v in (payload or {}).items() if isinstance(v, int | float)}
