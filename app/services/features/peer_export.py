"""An SAE's features in the formats of other tools, batch by batch."""

import json
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from app.services.features import catalog, features
from app.services.features.export import in_blocks
from core.db.repositories import labels
from core.db.session import Session, SessionScope
from core.domain.ids import FeatureId
from core.domain.label import LabelQuery
from core.domain.views import FeaturePage, Vocabulary
from core.errors import NotFound
from core.interchange import neuronpedia, saedashboard


class PeerFormat(StrEnum):
    """What another tool reads."""

    NEURONPEDIA_UPLOAD = "neuronpedia-upload"  # JSON lines: bodies of feature/upload-batch
    NEURONPEDIA_FEATURES = "neuronpedia-features"  # JSON lines of features/batch-N
    NEURONPEDIA_ACTIVATIONS = "neuronpedia-activations"  # JSON lines of activations/batch-N
    NEURONPEDIA_EXPLANATIONS = "neuronpedia-explanations"  # JSON lines of explanations/batch-N


def peer_export(
    scope: SessionScope,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None = None,
    form: PeerFormat,
) -> Iterator[bytes]:
    """Every feature of an SAE as JSON lines that Neuronpedia reads.

    Raises (before the first piece):
        NotFound: no such model, SAE or harvest.
    """
    if form is PeerFormat.NEURONPEDIA_EXPLANATIONS:
        with scope() as session:
            catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
        return in_blocks(_names(scope, LabelQuery(model_id=model_id, sae_id=sae_id)))
    with scope() as session:
        sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
        chosen = sae.harvest.harvest_id if sae.harvest else harvest_id
        revision = sae.harvest.model_revision if sae.harvest else None
        words = catalog.vocabulary(session, model_id=model_id, revision=revision)
    lines = _lines(scope, words, model_id=model_id, sae_id=sae_id, harvest_id=chosen, form=form)
    return in_blocks(lines)


def dashboard_batch(
    session: Session,
    *,
    model_id: str,
    sae_id: str,
    batch: int,
    harvest_id: int | None = None,
) -> bytes:
    """SAEDashboard's ``batch-N.json``: 128 features a batch, from 0.

    Raises:
        NotFound: no such model, SAE, harvest or batch.
    """
    first = batch * saedashboard.BATCH_FEATURES
    pages = _batch(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, first=first)
    if not pages:
        raise NotFound(f"No batch {batch}.", hint="Batches count from 0, 128 features each.")
    words = catalog.page_vocabulary(session, pages[0])
    return _dump(saedashboard.batch(pages, words, model_id=model_id, sae_id=sae_id))


def neuronpedia_feature(
    session: Session, *, feature: FeatureId, harvest_id: int | None = None
) -> bytes:
    """A feature as Neuronpedia's own API answers it.

    Raises:
        NotFound: no such model, SAE, harvest or index.
    """
    page = features.feature_page(session, feature=feature, harvest_id=harvest_id)
    words, label = catalog.page_vocabulary(session, page), labels.get(session, feature)
    return _dump(neuronpedia.feature_json(page, words, label))


def _names(scope: SessionScope, query: LabelQuery) -> Iterator[bytes]:
    """The names that people gave, as explanations; features without one are left out."""
    page: LabelQuery | None = query
    while page is not None:
        with scope() as session:
            found = labels.list_labels(session, page)
        yield from (
            _dump(neuronpedia.explanation(label)) + b"\n" for label in found if label.text.name
        )
        page = replace(page, after=found[-1].feature) if len(found) == page.limit else None


def _lines(
    scope: SessionScope,
    words: Vocabulary,
    *,
    model_id: str,
    sae_id: str,
    harvest_id: int | None,
    form: PeerFormat,
) -> Iterator[bytes]:
    first = 0
    while True:
        with scope() as session:
            pages = _batch(
                session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id, first=first
            )
        if not pages:
            return
        for row in _rows(pages, words, form=form, model_id=model_id, sae_id=sae_id):
            yield _dump(row) + b"\n"
        first += neuronpedia.UPLOAD_FEATURES


def _rows(
    pages: tuple[FeaturePage, ...],
    words: Vocabulary,
    *,
    form: PeerFormat,
    model_id: str,
    sae_id: str,
) -> Iterator[neuronpedia.Row]:
    match form:
        case PeerFormat.NEURONPEDIA_UPLOAD:
            body = neuronpedia.upload_batch(pages, words, model_id=model_id, source=sae_id)
            if body["features"]:
                yield body
        case PeerFormat.NEURONPEDIA_FEATURES:
            yield from (neuronpedia.neuron(page, words) for page in pages)
        case PeerFormat.NEURONPEDIA_ACTIVATIONS:
            for page in pages:
                yield from neuronpedia.activations(page, words)
        case PeerFormat.NEURONPEDIA_EXPLANATIONS:
            raise AssertionError("made of labels, not of pages")


def _batch(
    session: Session, *, model_id: str, sae_id: str, harvest_id: int | None, first: int
) -> tuple[FeaturePage, ...]:
    """The pages of up to 128 features from an index on."""
    sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
    end = min(first + neuronpedia.UPLOAD_FEATURES, sae.n_features)
    return features.feature_pages(
        session,
        model_id=model_id,
        sae_id=sae_id,
        harvest_id=harvest_id,
        indices=range(first, end),
    )


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
