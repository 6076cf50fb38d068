"""Under which model the features of an SAE are explained, labelled and shown.

A run that starts from a fine-tuned model, or a contrast that reads one, uses the SAE of the model
before it: its features are known there, whatever the trained model is called.
"""

from collections.abc import Mapping

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db.models.catalog import Sae
from core.db.repositories.sources import stored_saes
from core.domain.sae import SaeSource


def home_of(session: Session, *, model_id: str, sae_id: str, revision: str) -> str:
    """The model that an SAE belongs to: its own where it has the SAE, else one with these weights.

    Args:
        session: the catalog.
        model_id: the model that was read; also the answer where no model has the SAE.
        sae_id: the SAE.
        revision: hash of its weights.
    """
    query = (
        select(Sae.model_id)
        .where(Sae.sae_id == sae_id, or_(Sae.model_id == model_id, Sae.revision == revision))
        .order_by((Sae.model_id == model_id).desc(), Sae.id.desc())
        .limit(1)
    )
    return session.execute(query).scalar_one_or_none() or model_id


def homes_by_source(
    session: Session, *, model_id: str, saes: Mapping[str, SaeSource]
) -> dict[str, str]:
    """The same before the weights were read: by SAE id, from where each SAE comes."""
    stored = stored_saes(session)
    own = {sae.sae_id for sae in stored if sae.model_id == model_id}
    found = {}
    for sae_id, source in saes.items():
        same = (s.model_id for s in stored if (s.sae_id, s.source) == (sae_id, source))
        found[sae_id] = model_id if sae_id in own else next(same, model_id)
    return found
