"""Small, consistent harvests: every number follows from one array of activations."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from core.db.repositories import catalog, harvests
from core.domain.activation import (
    HISTOGRAM_BINS,
    Band,
    ContextRows,
    LogitEffect,
    Neighbours,
    SaeHarvest,
    StoredContexts,
)
from core.domain.corpus import FileCorpusSpec
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.model import ModelInfo, ModelKind, ModelSource
from core.domain.sae import SaeInfo, SaeKind, SaeSource
from core.domain.views import Vocabulary

Activations = npt.NDArray[np.float32]

MODEL_ID = "tiny-lm"
SAE_ID = "1-tiny-res-24"
BOS = 256
WORDS = (
    *(b"<bos>", b"<eos>", b" the", b"The", b" caf\xc3\xa9", b"\n\n", b"\t", b"    "),
    *("שלום".encode(), " مرحبا".encode(), "世界".encode(), "🙂".encode(), b"\xf0\x9f"),
    *(b"<script>alert(1)</script>", b"&amp;", b"'\"", b" STRASSE", " Straße".encode(), b"\x00"),
)
TOKENS = (*(bytes((i,)) for i in range(256)), *WORDS)
SOURCES = ("prose", "code", "right-to-left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Keys of a published sample, and what was published."""

    harvest_id: int
    model_pk: int
    sae_pks: tuple[int, ...]
    saes: tuple[SaeHarvest, ...]
    contexts: StoredContexts


def byte_vocabulary() -> Vocabulary:
    """One token a byte, then words that are hard to show: partial, right to left, HTML."""
    return Vocabulary(model_id=MODEL_ID, tokens=TOKENS, special_ids=frozenset({BOS, BOS + 1}))


def make_contexts(
    rng: np.random.Generator, *, n_contexts: int = 40, context_size: int = 16
) -> StoredContexts:
    """Contexts of random tokens, BOS in front; each fifth is shorter."""
    ids = rng.integers(0, len(TOKENS), (n_contexts, context_size)).astype(np.int32)
    ids[ids == BOS] = ord(" ")
    ids[::3, 1:] = rng.integers(BOS + 2, len(TOKENS), ids[::3, 1:].shape)
    ids[:, 0] = BOS
    ids[4::5, context_size // 2 :] = -1
    return StoredContexts(
        context_index=np.arange(n_contexts, dtype=np.int32),
        token_ids=ids,
        document=np.sort(rng.integers(0, 2**40, n_contexts)),
        start=rng.integers(0, 1000, n_contexts).astype(np.int32),
        source_index=rng.integers(0, len(SOURCES), n_contexts).astype(np.int32),
        sources=SOURCES,
    )


def make_activations(
    rng: np.random.Generator, contexts: StoredContexts, n_features: int
) -> Activations:
    """Activations "context pos feature": sparse, feature 0 dense, each fifth from 3 dead, ties."""
    scored = contexts.token_ids >= 0
    scored[:, 0] = False
    values = rng.gamma(2.0, 3.0, (*scored.shape, n_features)).astype(np.float32)
    fires = rng.random(values.shape) < np.linspace(0.6, 0.02, n_features)
    values = np.where(fires & scored[..., None], values, np.float32(0))
    values[..., 3::5] = 0
    values[..., 1] = np.minimum(values[..., 1], np.float32(0.1))  # equal maxima, no short decimal
    return values


def make_sae_harvest(
    rng: np.random.Generator, *, n_features: int = 24, contexts: StoredContexts | None = None
) -> tuple[SaeHarvest, StoredContexts]:
    """What one SAE's features did on the contexts."""
    contexts = make_contexts(rng) if contexts is None else contexts
    values = make_activations(rng, contexts, n_features)
    flat = values.reshape(-1, n_features)
    peak = flat.max(axis=0)
    tokens = contexts.token_ids.reshape(-1)[flat.argmax(axis=0)]
    exponent, histogram = _histograms(flat)
    firing = (flat > 0).astype(np.int32)
    both = firing.T @ firing
    np.fill_diagonal(both, 0)
    nearest = np.argsort(-both, axis=1, kind="stable")[:, :3].astype(np.int32)
    support = np.take_along_axis(both, nearest, axis=1).astype(np.int32)
    nearest[support == 0] = -1
    harvest = SaeHarvest(
        n_scored=int((contexts.token_ids[:, 1:] >= 0).sum()),
        max_norm=50.5,
        n_active=firing.sum(axis=0).astype(np.int64),
        n_contexts=(values > 0).any(axis=1).sum(axis=0).astype(np.int64),
        sum_activation=flat.sum(axis=0, dtype=np.float64),
        max_activation=peak,
        peak_token=np.where(peak > 0, tokens, -1).astype(np.int32),
        histogram_exponent=exponent,
        histogram=histogram,
        coactivation=Neighbours(index=nearest, value=(support / 7).astype(np.float32)),
        coactivation_support=support,
        decoder_cosine=Neighbours(
            index=rng.integers(0, n_features, (n_features, 2)).astype(np.int32),
            value=rng.random((n_features, 2)).astype(np.float32),
        ),
        logit_effect=_logits(rng, n_features),
        contexts=_kept(values),
        random=_random(values, np.sort(rng.choice(len(values), 6, replace=False))),
    )
    return harvest, contexts


def make_spec(*, saes: tuple[str, ...] = (SAE_ID,), seed: int = 0) -> HarvestSpec:
    """What the sample pretends to have been asked for."""
    return HarvestSpec(
        model_id=MODEL_ID,
        model=ModelSource(kind=ModelKind.FOLDER, location="/models/tiny-lm"),
        saes=tuple(
            SaeEntry(sae_id=name, source=SaeSource(kind=SaeKind.FOLDER, location=f"/saes/{name}"))
            for name in saes
        ),
        corpus=FileCorpusSpec(path="/texts/sample.jsonl"),
        context_size=16,
        seed=seed,
    )


def save_sample_model(session: Session, *, revision: str = "weights-1") -> int:
    """Key of a model with the byte vocabulary."""
    return catalog.save_model(
        session,
        model_id=MODEL_ID,
        source=ModelSource(kind=ModelKind.FOLDER, location="/models/tiny-lm"),
        info=ModelInfo(
            n_layers=2,
            d_model=16,
            vocab_size=len(TOKENS),
            context_limit=128,
            architecture="LlamaForCausalLM",
            revision=revision,
            bos_rule="Each context starts with <bos>.",
        ),
        vocabulary=byte_vocabulary(),
    )


def save_sample_sae(session: Session, *, sae_id: str = SAE_ID, d_sae: int = 24) -> int:
    """Key of an SAE of layer 1."""
    return catalog.save_sae(
        session,
        model_id=MODEL_ID,
        sae_id=sae_id,
        source=SaeSource(kind=SaeKind.FOLDER, location=f"/saes/{sae_id}"),
        info=SaeInfo(
            hook_name="blocks.1.hook_resid_post",
            layer=1,
            d_in=16,
            d_sae=d_sae,
            architecture="jumprelu",
            normalize_activations="none",
            revision=f"sha-{sae_id}",
        ),
        record={"l0": 6.5, "explained_variance": 0.75},
    )


def publish_sample(
    session: Session,
    *,
    seed: int = 0,
    spec_hash: str | None = None,
    saes: tuple[str, ...] = (SAE_ID,),
    n_features: int = 24,
    revision: str = "weights-1",
    job_id: int | None = None,
    n_outliers: int = 0,
) -> Sample:
    """A small harvest in the database: dead features, ties, hard tokens, short contexts."""
    rng = np.random.default_rng(seed)
    contexts = make_contexts(rng)
    found = [make_sae_harvest(rng, n_features=n_features, contexts=contexts)[0] for _ in saes]
    model_pk = save_sample_model(session, revision=revision)
    sae_pks = tuple(save_sample_sae(session, sae_id=name, d_sae=n_features) for name in saes)
    harvest_id = harvests.publish(
        session,
        job_id=job_id,
        model_pk=model_pk,
        spec=make_spec(saes=saes, seed=seed),
        spec_hash=spec_hash or f"spec-{seed}",
        corpus_hash="corpus-1",
        n_contexts=len(contexts.context_index),
        n_tokens=int((contexts.token_ids >= 0).sum()),
        n_scored=found[0].n_scored + n_outliers,
        contexts=contexts,
        saes=zip(sae_pks, found, strict=True),
    )
    return Sample(
        harvest_id=harvest_id,
        model_pk=model_pk,
        sae_pks=sae_pks,
        saes=tuple(found),
        contexts=contexts,
    )


def rows_of(chosen: list[list[tuple[int, Band]]], values: Activations) -> ContextRows:
    """Rows of the chosen contexts of each feature, with the activations on them."""
    positions, kept, sizes = [], [], []
    for feature, rows in enumerate(chosen):
        for context, _ in rows:
            line = values[context, :, feature]
            places = np.flatnonzero(line)
            positions.append(places)
            kept.append(line[places])
            sizes.append(len(places))
    flat = [row for rows in chosen for row in rows]
    return ContextRows(
        row_offsets=np.cumsum([0, *(len(rows) for rows in chosen)], dtype=np.int64),
        context_index=np.array([context for context, _ in flat], np.int32),
        band=np.array([band for _, band in flat], np.int8),
        nnz_offsets=np.cumsum([0, *sizes], dtype=np.int64),
        positions=np.concatenate([np.zeros(0, np.uint16), *positions]).astype(np.uint16),
        values=np.concatenate([np.zeros(0, np.float32), *kept]),
    )


def _ranked(values: Activations, feature: int, contexts: npt.NDArray[np.intp]) -> list[int]:
    peaks = values[contexts, :, feature].max(axis=1)
    return [int(contexts[i]) for i in np.lexsort((contexts, -peaks))]


def _kept(values: Activations, *, n_top: int = 4, n_band: int = 2) -> ContextRows:
    chosen = []
    for feature in range(values.shape[2]):
        firing = np.flatnonzero((values[:, :, feature] > 0).any(axis=1))
        ranked = _ranked(values, feature, firing)
        rows = [(context, Band.TOP) for context in ranked[:n_top]]
        for band, part in zip(list(Band)[1:5], np.array_split(ranked[n_top:], 4), strict=True):
            rows += [(int(context), band) for context in part[:n_band]]
        chosen.append(rows)
    return rows_of(chosen, values)


def _random(values: Activations, drawn: npt.NDArray[np.intp]) -> ContextRows:
    features = range(values.shape[2])
    chosen = [[(c, Band.RANDOM) for c in _ranked(values, feature, drawn)] for feature in features]
    return rows_of(chosen, values)


def _histograms(flat: Activations) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    n_features = flat.shape[1]
    exponents = np.zeros(n_features, np.int32)
    counts = np.zeros((n_features, HISTOGRAM_BINS), np.uint32)
    for feature in range(n_features):
        positive = flat[flat[:, feature] > 0, feature].astype(np.float64)
        if len(positive):
            exponents[feature] = np.frexp(positive.max())[1]
            bins = (positive * HISTOGRAM_BINS / 2.0 ** exponents[feature]).astype(int)
            counts[feature] = np.bincount(bins, minlength=HISTOGRAM_BINS)
    return exponents, counts


def _logits(rng: np.random.Generator, n_features: int, *, k: int = 4) -> LogitEffect:
    effects = rng.normal(0, 1, (n_features, len(TOKENS))).astype(np.float32)
    order = np.argsort(effects, axis=1).astype(np.int32)
    top, bottom = order[:, ::-1][:, :k].copy(), order[:, :k].copy()
    return LogitEffect(
        top_ids=top,
        top_values=np.take_along_axis(effects, top, axis=1),
        bottom_ids=bottom,
        bottom_values=np.take_along_axis(effects, bottom, axis=1),
    )
