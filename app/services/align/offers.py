"""What a run can start from without writing it out: known models, finished runs, known SAEs."""

from dataclasses import dataclass

from core.db.repositories import catalog, jobs, preference_sets, sources
from core.db.session import Session
from core.domain.alignment import AlignSpec, SftSpec
from core.domain.job import JobCard, JobState, parse_spec
from core.domain.model import ModelKind, ModelSource
from core.domain.sae import SaeSource
from core.domain.views import SaeCard
from core.domain.views_align import PreferenceSetCard

_RUN_KINDS = ("sft", "align")
_RUNS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """A model to start from.

    Attributes:
        key: ``model:<id>``, or ``run:<job>`` for the result of a run.
        job_id: the run that made it; None for a model of the catalog.
        based_on: id of the model that the run started from; empty for a model of the catalog.
        d_model, n_layers, vocab_size, context_limit: None where nothing says them.
    """

    key: str
    model_id: str
    source: ModelSource
    job_id: int | None = None
    based_on: str = ""
    d_model: int | None = None
    n_layers: int | None = None
    vocab_size: int | None = None
    context_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedSae:
    """An SAE whose features can be held.

    Attributes:
        key: ``<model id>/<sae id>``.
        normalize_activations: how it scales its input; ``none`` is what a constraint needs.
    """

    key: str
    sae_id: str
    source: SaeSource
    normalize_activations: str
    card: SaeCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """Everything that is offered."""

    models: tuple[OfferedModel, ...]
    saes: tuple[OfferedSae, ...]
    sets: tuple[PreferenceSetCard, ...] = ()

    def stored_set(self, content_hash: str) -> PreferenceSetCard | None:
        """The stored preference set of a content hash; None for any other text."""
        return next((card for card in self.sets if card.content_hash == content_hash), None)

    def model(self, key: str) -> OfferedModel | None:
        """The model of a key, or ``model:<id>`` of a run's result; None for any other text."""
        keys = (model for model in self.models if key in (model.key, f"model:{model.model_id}"))
        return next(keys, None)

    def sae(self, key: str) -> OfferedSae | None:
        """The SAE of a key; None for any other text."""
        return next((sae for sae in self.saes if sae.key == key), None)

    def start_of(self, model_id: str, source: ModelSource) -> str | None:
        """The key of a model that is offered under this id from this very place."""
        return next(
            (m.key for m in self.models if m.model_id == model_id and m.source == source), None
        )

    def pick_of(self, model_id: str, sae_id: str, source: SaeSource) -> str | None:
        """The key of an SAE that is offered under this id from this very place."""
        found = [sae for sae in self.saes if sae.sae_id == sae_id and sae.source == source]
        own = [sae for sae in found if sae.card.model_id == model_id]
        return next((sae.key for sae in (*own, *found)), None)

    def saes_of(self, model: OfferedModel | None) -> tuple[OfferedSae, ...]:
        """The SAEs of a model, those of the model that a run started from among them."""
        if model is None:
            return self.saes
        names = {model.model_id, model.based_on}
        return tuple(sae for sae in self.saes if sae.card.model_id in names) or self.saes


def list_offers(session: Session) -> Offers:
    """What there is now, runs the newest first."""
    stored = {(sae.model_id, sae.sae_id): sae for sae in sources.stored_saes(session)}
    cards = [card for model in catalog.list_models(session) for card in model.saes]
    return Offers(
        models=(*_known_models(session), *_runs(session)),
        saes=tuple(
            OfferedSae(
                key=f"{card.model_id}/{card.sae_id}",
                sae_id=card.sae_id,
                source=stored[card.model_id, card.sae_id].source,
                normalize_activations=stored[card.model_id, card.sae_id].normalize_activations,
                card=card,
            )
            for card in cards
        ),
        sets=preference_sets.list_sets(session),
    )


def _known_models(session: Session) -> tuple[OfferedModel, ...]:
    return tuple(
        OfferedModel(
            key=f"model:{model.model_id}",
            model_id=model.model_id,
            source=model.source,
            d_model=model.d_model,
            n_layers=model.n_layers,
            vocab_size=model.vocab_size,
            context_limit=model.context_limit,
        )
        for model in sources.stored_models(session)
    )


def _runs(session: Session) -> tuple[OfferedModel, ...]:
    finished = [
        card
        for kind in _RUN_KINDS
        for card in jobs.list_jobs(session, kind=kind, state=JobState.SUCCEEDED, limit=_RUNS_SHOWN)
    ]
    finished.sort(key=lambda card: card.job_id, reverse=True)
    found = (_run(session, card) for card in finished)
    return tuple(model for model in found if model is not None)


def _run(session: Session, card: JobCard) -> OfferedModel | None:
    folder = (card.result or {}).get("model_dir")
    spec = parse_spec(jobs.get_spec(session, card.job_id))
    if not isinstance(folder, str) or not isinstance(spec, AlignSpec | SftSpec):
        return None
    return OfferedModel(
        key=f"run:{card.job_id}",
        model_id=spec.aligned_id if isinstance(spec, AlignSpec) else spec.tuned_id,
        source=ModelSource(kind=ModelKind.FOLDER, location=folder),
        job_id=card.job_id,
        based_on=spec.model_id,
    )
