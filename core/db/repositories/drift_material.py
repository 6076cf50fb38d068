"""What a drift reads again: SAEs with a harvest, their features' contexts, and the tokens."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.models.catalog import Model, Sae
from core.db.models.feature import FeatureEvidence
from core.db.models.harvest import Harvest, HarvestContext, HarvestSae
from core.db.packing.rows import join_rows, unpack_random, unpack_rows
from core.db.packing.words import unpack_context
from core.db.repositories.evidence import one_of
from core.domain.align_jobs import DriftSae
from core.domain.align_results import StoredPart
from core.domain.alignment import ConstraintSae
from core.domain.sae import SaeSource
from core.errors import NotFound


def default_saes(
    session: Session, *, model_id: str, constraint: Sequence[ConstraintSae]
) -> tuple[DriftSae, ...]:
    """The SAEs of a constraint set, then every other one with a harvest of the model.

    Each is read on its newest harvest by the model's newest revision, if it has one. Whether the
    weights that are loaded are still those of the harvest is found out then.
    """
    newest = select(func.max(Model.id)).where(Model.model_id == model_id).scalar_subquery()
    query = (
        select(Sae.sae_id, Sae.source, Harvest.id.label("harvest_id"))
        .join(HarvestSae, HarvestSae.sae_pk == Sae.id)
        .join(Harvest, Harvest.id == HarvestSae.harvest_id)
        .join(Model, Model.id == Harvest.model_pk)
        .where(Model.id == newest, Sae.model_id == model_id)
        .order_by(Sae.layer, Sae.sae_id, Harvest.finished_at.desc(), Harvest.id.desc())
    )
    harvested: dict[str, DriftSae] = {}
    for row in session.execute(query):
        found = DriftSae(
            sae_id=row.sae_id,
            source=SaeSource.model_validate(row.source),
            harvest_id=row.harvest_id,
        )
        harvested.setdefault(row.sae_id, found)
    first = [
        DriftSae(
            sae_id=entry.sae_id,
            source=entry.source,
            harvest_id=harvested[entry.sae_id].harvest_id if entry.sae_id in harvested else None,
        )
        for entry in constraint
    ]
    named = {entry.sae_id for entry in first}
    return (*first, *(sae for sae_id, sae in harvested.items() if sae_id not in named))


def stored_part(session: Session, harvest_id: int, *, sae_id: str) -> StoredPart:
    """An SAE's stored rows in one harvest, of all its features.

    Raises:
        NotFound: the harvest is gone or does not hold the SAE.
    """
    query = (
        select(
            HarvestSae.id,
            HarvestSae.random_contexts,
            HarvestSae.max_norm,
            Model.revision.label("model_revision"),
            Sae.revision.label("sae_revision"),
        )
        .join(Sae, Sae.id == HarvestSae.sae_pk)
        .join(Harvest, Harvest.id == HarvestSae.harvest_id)
        .join(Model, Model.id == Harvest.model_pk)
        .where(HarvestSae.harvest_id == harvest_id, Sae.sae_id == sae_id)
    )
    part = session.execute(query).one_or_none()
    if part is None:
        raise NotFound(
            f"Harvest {harvest_id} does not hold {sae_id}.",
            hint="It may have been deleted; measure on another harvest or on answers only.",
        )
    rows = session.execute(
        select(FeatureEvidence.contexts, FeatureEvidence.random)
        .where(FeatureEvidence.harvest_sae_id == part.id)
        .order_by(FeatureEvidence.index)
    ).all()
    random = join_rows([unpack_random(part.random_contexts, row.random) for row in rows])
    return StoredPart(
        part_id=part.id,
        model_revision=part.model_revision,
        sae_revision=part.sae_revision,
        max_norm=part.max_norm,
        random_contexts=np.unique(random.context_index).astype(np.int64),
        contexts=join_rows([unpack_rows(row.contexts) for row in rows]),
        random=random,
    )


def read_tokens(
    session: Session, harvest_id: int, numbers: Sequence[int]
) -> dict[int, npt.NDArray[np.int32]]:
    """Token ids of some contexts of a harvest as the model saw them, without padding."""
    query = select(HarvestContext.context_index, HarvestContext.tokens).where(
        HarvestContext.harvest_id == harvest_id, HarvestContext.context_index == one_of(numbers)
    )
    return {row.context_index: unpack_context(row.tokens) for row in session.execute(query)}
