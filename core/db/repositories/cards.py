"""Rows of the catalog as cards: models, SAEs and harvests as pages name them."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, select

from core.db.models.catalog import Model, Sae
from core.db.models.harvest import Harvest, HarvestSae
from core.domain.harvest import HarvestInfo
from core.domain.sae import SaeKind, SaeSource
from core.domain.views import SaeCard

if TYPE_CHECKING:
    AnyRow = Row[*tuple[Any, ...]]
else:  # from Python 3.13 on, the checker of types at run time refuses an unpacked tuple here
    AnyRow = Row

HARVEST_COLUMNS = (
    Harvest.id.label("harvest_id"),
    Harvest.job_id,
    Model.model_id.label("harvest_model_id"),
    Model.revision.label("model_revision"),
    Harvest.corpus_name,
    Harvest.corpus_hash,
    Harvest.context_size,
    Harvest.n_contexts,
    Harvest.n_tokens,
    Harvest.n_scored,
    Harvest.seed,
    Harvest.spec_hash,
    Harvest.finished_at,
)
SAE_COLUMNS = (
    Sae.model_id,
    Sae.sae_id,
    Sae.revision.label("sae_revision"),
    Sae.source.label("sae_source"),
    Sae.hook_name,
    Sae.layer,
    Sae.d_in,
    Sae.d_sae,
    Sae.architecture,
    Sae.record,
)
PART_COLUMNS = (
    HarvestSae.id.label("part_id"),
    HarvestSae.n_features,
    HarvestSae.n_dead,
    HarvestSae.n_scored.label("part_scored"),
    HarvestSae.max_norm,
    HarvestSae.n_active.label("part_active"),
)


def source_name(source: dict[str, Any]) -> str:
    """An SAE's origin in one line: release and id, or a path."""
    value = SaeSource.model_validate(source)
    if value.kind is SaeKind.HUB and value.release_id:
        return f"{value.location}/{value.release_id}"
    return value.location


def harvest_info(row: AnyRow) -> HarvestInfo:
    """A harvest from a row with HARVEST_COLUMNS."""
    return HarvestInfo(
        harvest_id=row.harvest_id,
        job_id=row.job_id,
        model_id=row.harvest_model_id,
        model_revision=row.model_revision,
        corpus_name=row.corpus_name,
        corpus_hash=row.corpus_hash,
        context_size=row.context_size,
        n_contexts=row.n_contexts,
        n_tokens=row.n_tokens,
        n_scored=row.n_scored,
        seed=row.seed,
        spec_hash=row.spec_hash,
        finished_at=row.finished_at,
    )


def sae_card(row: AnyRow) -> SaeCard:
    """An SAE from a row with all columns; those of the harvest may be NULL."""
    harvested = row.harvest_id is not None
    return SaeCard(
        sae_id=row.sae_id,
        model_id=row.model_id,
        hook_name=row.hook_name,
        layer=row.layer,
        d_in=row.d_in,
        d_sae=row.d_sae,
        architecture=row.architecture,
        source=source_name(row.sae_source),
        revision=row.sae_revision,
        record=row.record,
        harvest=harvest_info(row) if harvested else None,
        n_features=row.n_features if harvested else row.d_sae,
        n_dead=row.n_dead if harvested else 0,
        n_scored=row.part_scored if harvested else 0,
        max_norm=row.max_norm,
        mean_l0=row.part_active / row.part_scored if harvested and row.part_scored else 0.0,
    )


def select_harvests() -> Select[*tuple[Any, ...]]:
    """All harvests, the newest first."""
    return (
        select(*HARVEST_COLUMNS)
        .join(Model, Model.id == Harvest.model_pk)
        .order_by(Harvest.finished_at.desc(), Harvest.id.desc())
    )


def select_saes() -> Select[*tuple[Any, ...]]:
    """Each SAE once a harvest, the newest first; an SAE without a harvest once, last."""
    return (
        select(*SAE_COLUMNS, *PART_COLUMNS, *HARVEST_COLUMNS)
        .select_from(Sae)
        .outerjoin(HarvestSae, HarvestSae.sae_pk == Sae.id)
        .outerjoin(Harvest, Harvest.id == HarvestSae.harvest_id)
        .outerjoin(Model, Model.id == Harvest.model_pk)
        .order_by(
            Harvest.finished_at.desc().nulls_last(),
            Harvest.id.desc().nulls_last(),
            Sae.created_at.desc(),
            Sae.id.desc(),
        )
    )
