"""Features: lists, pages, raw records and the numbers behind plots."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from jaxtyping import Float, Int

from app.services.features import catalog
from core.autointerp.records import format_record, make_record, normalise_openai
from core.db.repositories import feature_pages as stored_pages
from core.db.repositories import features
from core.db.session import Session
from core.domain.activation import ActivationRecord, Band, ContextActivations
from core.domain.ids import FeatureId
from core.domain.views import FeatureList, FeaturePage, FeatureQuery, Vocabulary
from core.errors import NotFound
from core.recent import Recent

MAX_LIST_LIMIT = 500


def list_features(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    query: FeatureQuery,
    harvest_id: int | None = None,
) -> FeatureList:
    """One page of an SAE's features; of the newest finished harvest unless one is named.

    Raises:
        NotFound: no such model, SAE or harvest.
        Invalid: the query's keyset cannot be read.
    """
    return features.list_features(
        session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, query=query
    )


def feature_page(
    session: Session,
    *,
    feature: FeatureId,
    harvest_id: int | None = None,
    include_random: bool = False,
) -> FeaturePage:
    """Everything known of one feature in a harvest.

    Raises:
        NotFound: no such model, SAE, harvest or index.
    """
    return stored_pages.feature_page(
        session, feature=feature, harvest_id=harvest_id, include_random=include_random
    )


def feature_pages(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None = None,
    indices: Sequence[int],
) -> tuple[FeaturePage, ...]:
    """The pages of many features at the cost of a few queries; what is not there is left out.

    Raises:
        NotFound: no such model, SAE or harvest.
    """
    return stored_pages.feature_pages(
        session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, indices=indices
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One context as an explainer sees it.

    Attributes:
        record: tokens as text with raw activations; BOS and other special tokens left out, and
            tokens that are parts of one character joined.
        scaled: whole numbers 0–10, 10 being the feature's maximum.
        text: rows ``token<tab>number``; only those above 0 where that was asked for.
    """

    context_index: int
    band: Band
    record: ActivationRecord
    scaled: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecords:
    """The raw view of a feature: its contexts as token, tab, number.

    Attributes:
        max_activation: the raw activation that becomes 10.
        only_nonzero: whether rows of number 0 are left out of the texts.
    """

    feature: FeatureId
    harvest_id: int
    max_activation: float
    only_nonzero: bool
    records: tuple[RawRecord, ...]


def raw_records(
    session: Session,
    *,
    feature: FeatureId,
    harvest_id: int | None = None,
    band: Band | None = None,
    only_nonzero: bool = False,
    limit: int | None = None,
) -> RawRecords:
    """A feature's contexts in the explainer's form, in band order.

    Args:
        session: the database.
        feature: which one.
        harvest_id: of which harvest; None means the newest finished one.
        band: only this band; None means all but RANDOM.
        only_nonzero: leave rows of number 0 out of the texts.
        limit: at most so many contexts.

    Raises:
        NotFound: no such model, SAE, harvest or index.
    """
    page = feature_page(
        session, feature=feature, harvest_id=harvest_id, include_random=band is Band.RANDOM
    )
    words = catalog.page_vocabulary(session, page)
    contexts = [c for c in page.contexts if band is None or c.band is band][:limit]
    top = page.stats.max_activation
    return RawRecords(
        feature=feature,
        harvest_id=page.harvest.harvest_id,
        max_activation=top,
        only_nonzero=only_nonzero,
        records=tuple(_raw(c, words, top=top, only_nonzero=only_nonzero) for c in contexts),
    )


def _raw(
    context: ContextActivations, words: Vocabulary, *, top: float, only_nonzero: bool
) -> RawRecord:
    ids = context.token_ids.tolist()
    record = make_record(
        [catalog.token(words, i).raw for i in ids],
        context.activations.tolist(),
        scored=[i not in words.special_ids for i in ids],
    )
    return RawRecord(
        context_index=context.context_index,
        band=context.band,
        record=record,
        scaled=normalise_openai(record.activations, max_activation=top),
        text=format_record(record, max_activation=top, only_nonzero=only_nonzero),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureScatter:
    """Numbers of every feature of an SAE, for plots; index i is feature i."""

    harvest_id: int
    density: Float[np.ndarray, " feature"]
    max_activation: Float[np.ndarray, " feature"]
    mean_activation: Float[np.ndarray, " feature"]


def scatter(
    session: Session, *, model_id: str, sae_id: str, harvest_id: int | None = None
) -> FeatureScatter:
    """Density, maximum and mean of every feature of an SAE.

    Raises:
        NotFound: no such model, SAE or harvest.
    """
    sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    if sae.harvest is None:
        raise NotFound(f"{sae_id} has no finished harvest.", hint="Start a harvest with it.")
    harvest = sae.harvest
    key = (harvest.harvest_id, harvest.finished_at, model_id, sae_id)
    return _SCATTERS.get(
        key, lambda: _scatter(session, model_id, sae_id, harvest_id=harvest.harvest_id)
    )


# What a finished harvest found never changes; a row of 16,384 features takes 400 kB.
_SCATTERS: Recent[tuple[int, datetime | None, str, str], FeatureScatter] = Recent(32)


def _scatter(session: Session, model_id: str, sae_id: str, *, harvest_id: int) -> FeatureScatter:
    columns = features.feature_stats(
        session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id
    )
    return FeatureScatter(
        harvest_id=harvest_id,
        density=columns.density,
        max_activation=columns.max_activation,
        mean_activation=columns.mean_activation,
    )


def random_feature(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    rng: random.Random,
    harvest_id: int | None = None,
) -> FeatureId:
    """A living feature, each as likely as another.

    Raises:
        NotFound: no such model, SAE or harvest, or no living feature in it.
    """
    density = scatter(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id).density
    living: Int[np.ndarray, " living"] = np.flatnonzero(density)
    if not living.size:
        raise NotFound(f"No feature of {sae_id} fires.", hint="Harvest a larger corpus.")
    index = int(living[rng.randrange(living.size)])
    return FeatureId(model_id=model_id, sae_id=sae_id, index=index)


def shortest(value: float) -> float:
    """The shortest decimal that is the same float32: what is written where numbers are read.

    >>> shortest(0.10000000149011612)
    0.1
    """
    return float(str(np.float32(value))) if value else 0.0
