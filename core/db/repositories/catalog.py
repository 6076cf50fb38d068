"""What there is: models, their vocabularies, and SAEs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from core.db.models.catalog import Model, ModelVocabulary, Sae
from core.db.models.harvest import Harvest
from core.db.packing.words import pack_tokens, unpack_tokens
from core.db.repositories.cards import AnyRow, harvest_info, sae_card, select_harvests, select_saes
from core.domain.ids import check_model_id, check_sae_id
from core.domain.model import ModelInfo, ModelSource
from core.domain.sae import SaeInfo, SaeSource
from core.domain.views import ModelCard, SaeCard, Vocabulary
from core.errors import NotFound

_MODELS = "List the models to see which there are."


def save_model(
    session: Session,
    *,
    model_id: str,
    source: ModelSource,
    info: ModelInfo,
    vocabulary: Vocabulary,
) -> int:
    """The key of a model's exact weights, stored with their vocabulary if new."""
    values = {
        "source": source.model_dump(mode="json"),
        "architecture": info.architecture,
        "n_layers": info.n_layers,
        "d_model": info.d_model,
        "vocab_size": info.vocab_size,
        "context_limit": info.context_limit,
        "bos_rule": info.bos_rule,
    }
    query = insert(Model).values(
        model_id=check_model_id(model_id), revision=info.revision, **values
    )
    query = query.on_conflict_do_update(index_elements=["model_id", "revision"], set_=values)
    model_pk = session.execute(query.returning(Model.id)).scalar_one()
    words = insert(ModelVocabulary).values(
        model_pk=model_pk,
        tokens=pack_tokens(vocabulary.tokens),
        special_ids=sorted(vocabulary.special_ids),
    )
    session.execute(words.on_conflict_do_nothing())
    return model_pk


def save_sae(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    source: SaeSource,
    info: SaeInfo,
    record: dict[str, float],
) -> int:
    """The key of an SAE's exact weights, stored if new; a new record replaces the old."""
    query = insert(Sae).values(
        model_id=check_model_id(model_id),
        sae_id=check_sae_id(sae_id),
        revision=info.revision,
        source=source.model_dump(mode="json"),
        hook_name=info.hook_name,
        layer=info.layer,
        d_in=info.d_in,
        d_sae=info.d_sae,
        architecture=info.architecture,
        normalize_activations=info.normalize_activations,
        record=record,
    )
    kept = {"source": query.excluded.source}
    if record:
        kept["record"] = query.excluded.record
    query = query.on_conflict_do_update(
        index_elements=["model_id", "sae_id", "revision"], set_=kept
    )
    return session.execute(query.returning(Sae.id)).scalar_one()


def list_models(session: Session) -> tuple[ModelCard, ...]:
    """Every model, by id, with its SAEs by layer and its harvests, newest first."""
    return _model_cards(session, session.execute(_newest_models()).all())


def get_model(session: Session, model_id: str) -> ModelCard:
    """One model, in its newest revision.

    Raises:
        NotFound: no model of that id.
    """
    rows = session.execute(_newest_models().where(Model.model_id == model_id)).all()
    if not rows:
        raise NotFound(f"No model {model_id!r}.", hint=_MODELS)
    return _model_cards(session, rows)[0]


def get_sae(
    session: Session, *, model_id: str, sae_id: str, harvest_id: int | None = None
) -> SaeCard:
    """One SAE in one harvest: the named one, else its newest.

    Raises:
        NotFound: no such SAE, or the harvest does not hold it.
    """
    query = select_saes().where(Sae.model_id == model_id, Sae.sae_id == sae_id).limit(1)
    if harvest_id is not None:
        query = query.where(Harvest.id == harvest_id)
    row = session.execute(query).one_or_none()
    if row is not None:
        return sae_card(row)
    get_model(session, model_id)
    if harvest_id is not None:
        raise NotFound(
            f"Harvest {harvest_id} does not hold {model_id}/{sae_id}.",
            hint="Leave the harvest out for the newest.",
        )
    raise NotFound(f"No SAE {model_id}/{sae_id}.", hint="Open the model to see which SAEs it has.")


def get_vocabulary(session: Session, *, model_id: str, revision: str | None = None) -> Vocabulary:
    """The exact bytes of a model's tokens, of its newest revision unless one is named.

    Raises:
        NotFound: no such model or revision.
    """
    query = (
        select(ModelVocabulary.tokens, ModelVocabulary.special_ids)
        .join(Model, Model.id == ModelVocabulary.model_pk)
        .where(Model.model_id == model_id)
        .order_by(Model.id.desc())
        .limit(1)
    )
    if revision is not None:
        query = query.where(Model.revision == revision)
    row = session.execute(query).one_or_none()
    if row is None:
        of = "" if revision is None else f" of revision {revision}"
        raise NotFound(
            f"No model {model_id!r}{of}.", hint="List the models to see which there are."
        )
    return Vocabulary(
        model_id=model_id,
        tokens=unpack_tokens(row.tokens),
        special_ids=frozenset(row.special_ids),
    )


def _newest_models() -> Any:
    columns = (Model.source, Model.architecture, Model.n_layers, Model.d_model)
    return (
        select(Model.model_id, Model.revision, *columns, Model.vocab_size, Model.bos_rule)
        .ext(distinct_on(Model.model_id))
        .order_by(Model.model_id, Model.id.desc())
    )


def _model_cards(session: Session, rows: Sequence[AnyRow]) -> tuple[ModelCard, ...]:
    ids = [row.model_id for row in rows]
    found = session.execute(select_saes().where(Sae.model_id.in_(ids))).all()
    newest: dict[tuple[str, str], SaeCard] = {}
    for sae in found:
        newest.setdefault((sae.model_id, sae.sae_id), sae_card(sae))
    saes = sorted(newest.values(), key=lambda sae: (sae.layer, sae.sae_id))
    query = select_harvests().where(Model.model_id.in_(ids))
    harvests = [harvest_info(row) for row in session.execute(query)]
    return tuple(
        ModelCard(
            model_id=row.model_id,
            source=row.source["location"],
            revision=row.revision,
            architecture=row.architecture,
            n_layers=row.n_layers,
            d_model=row.d_model,
            vocab_size=row.vocab_size,
            bos_rule=row.bos_rule,
            saes=tuple(sae for sae in saes if sae.model_id == row.model_id),
            harvests=tuple(one for one in harvests if one.model_id == row.model_id),
        )
        for row in rows
    )
