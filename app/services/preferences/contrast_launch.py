"""Starting a contrast: a model and SAEs that are known, on a preference set."""

from collections.abc import Sequence

from app.services.align.offers import OfferedModel, Offers
from app.services.problems import FieldProblem, FieldsInvalid
from core.db.repositories import jobs
from core.db.session import Session
from core.domain.align_jobs import ContrastSpec
from core.domain.alignment import PreferenceSource
from core.domain.harvest import SaeEntry
from core.domain.job import JobCard, JobState, parse_spec
from core.jobs import control

KIND = "contrast"
DEFAULT_PAIRS = 512
_ACTIVE = (JobState.QUEUED, JobState.RUNNING)
_JOBS_LOOKED_AT = 50


def contrast_spec(
    offers: Offers,
    *,
    data: PreferenceSource,
    model_key: str,
    sae_keys: Sequence[str],
    max_pairs: str,
) -> ContrastSpec:
    """Settings of a contrast from what was chosen on a page.

    Raises:
        FieldsInvalid: with every problem found.
    """
    model = offers.model(model_key)
    saes = [sae for key in dict.fromkeys(sae_keys) if (sae := offers.sae(key)) is not None]
    limit, problems = _pairs(max_pairs)
    if model is None:
        problems.append(FieldProblem(path="model", message="Choose a model."))
    if not saes:
        problems.append(FieldProblem(path="saes", message="Choose at least one SAE."))
    if model is not None and saes:
        problems += _fit_problems(offers, model, {sae.key for sae in saes})
    if problems or model is None:
        raise FieldsInvalid(tuple(problems))
    return ContrastSpec(
        model_id=model.model_id,
        model=model.source,
        saes=tuple(SaeEntry(sae_id=sae.sae_id, source=sae.source) for sae in saes),
        data=data,
        max_pairs=limit,
    )


def submit(session: Session, spec: ContrastSpec) -> int:
    """Queues a contrast when the session's transaction commits; the id of its job."""
    return control.submit(session, spec)


def running(session: Session, data: PreferenceSource) -> tuple[JobCard, ...]:
    """Contrasts of these data that have not ended, the newest first."""
    cards = [
        card
        for state in _ACTIVE
        for card in jobs.list_jobs(session, kind=KIND, state=state, limit=_JOBS_LOOKED_AT)
    ]
    return tuple(card for card in cards if _reads(session, card, data))


def _reads(session: Session, card: JobCard, data: PreferenceSource) -> bool:
    spec = parse_spec(jobs.get_spec(session, card.job_id))
    return isinstance(spec, ContrastSpec) and spec.data == data


def _fit_problems(offers: Offers, model: OfferedModel, keys: set[str]) -> list[FieldProblem]:
    known = {sae.key for sae in offers.saes_of(model)}
    foreign = sorted(keys - known)
    if not foreign:
        return []
    message = f"{foreign[0]} is an SAE of another model."
    return [FieldProblem(path="saes", message=message, hint="Choose SAEs of the chosen model.")]


def _pairs(text: str) -> tuple[int | None, list[FieldProblem]]:
    if not text.strip():
        return None, []
    plain = text.strip().replace(",", "")
    if plain.isascii() and plain.isdigit() and 0 < int(plain) < 10**9:
        return int(plain), []
    return None, [FieldProblem(path="max_pairs", message="Write a whole number from 1.")]
