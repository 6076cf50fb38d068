"""Models, SAEs and vocabularies."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query

from app.api.answers import failures
from app.api.params import MAX_ID, HarvestQuery, LimitQuery, ModelIdPath, SaeIdPath
from app.api.schemas.catalog import Health, Model, ModelPage, Sae, SaePage, Token, TokenPage
from app.deps import SessionDep
from app.services.features import catalog

router = APIRouter(tags=["catalog"])


@router.get("/health", responses=failures())
def health(session: SessionDep) -> Health:
    """Whether the server and its database answer."""
    n_models = len(catalog.list_models(session))
    return Health(status="ok", version=version("sparsight"), n_models=n_models)


@router.get("/models", responses=failures())
def list_models(session: SessionDep) -> ModelPage:
    """Every model that was harvested, with its SAEs and harvests."""
    found = catalog.list_models(session)
    return ModelPage(models=[Model.model_validate(card) for card in found])


@router.get("/models/{model_id}", responses=failures(404, 422))
def get_model(session: SessionDep, model_id: ModelIdPath) -> Model:
    """One model with its SAEs and harvests."""
    return Model.model_validate(catalog.get_model(session, model_id))


@router.get("/models/{model_id}/vocabulary", responses=failures(404, 422))
def list_tokens(
    session: SessionDep,
    model_id: ModelIdPath,
    containing: Annotated[
        str, Query(max_length=100, description="Only tokens with this text.", examples=["sorr"])
    ] = "",
    token_id: Annotated[
        list[int] | None,
        Query(max_length=500, description="Only these ids; may be repeated.", examples=[[7_471]]),
    ] = None,
    after: Annotated[
        int, Query(ge=-1, le=MAX_ID, description="Only ids above this one.", examples=[-1])
    ] = -1,
    limit: LimitQuery = 50,
) -> TokenPage:
    """Tokens of a model's vocabulary, found by text or by id, with their exact bytes."""
    words = catalog.vocabulary(session, model_id=model_id)
    if token_id is not None:
        known = [i for i in token_id if 0 <= i < len(words.tokens)]
        found = tuple(catalog.token(words, i) for i in known)
    else:
        found = catalog.find_tokens(words, containing=containing, after=after, limit=limit)
    more = token_id is None and len(found) == limit
    return TokenPage(
        tokens=[Token.of(token) for token in found],
        n_tokens=len(words.tokens),
        next_after=found[-1].token_id if more else None,
    )


@router.get("/models/{model_id}/saes", responses=failures(404, 422))
def list_saes(session: SessionDep, model_id: ModelIdPath) -> SaePage:
    """The SAEs of a model, each as it did in its newest harvest."""
    card = catalog.get_model(session, model_id)
    return SaePage(saes=[Sae.model_validate(sae) for sae in card.saes])


@router.get("/models/{model_id}/saes/{sae_id}", responses=failures(404, 422))
def get_sae(
    session: SessionDep, model_id: ModelIdPath, sae_id: SaeIdPath, harvest: HarvestQuery = None
) -> Sae:
    """One SAE: what it is, and how it did in a harvest."""
    card = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest)
    return Sae.model_validate(card)
