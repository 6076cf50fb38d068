"""The planted features as a harvest in the database: one feature a rule, one that is dead."""

import random

import numpy as np
from sqlalchemy.orm import Session

from core.db.repositories import catalog, harvests
from core.domain.activation import (
    HISTOGRAM_BINS,
    LogitEffect,
    Neighbours,
    SaeHarvest,
    StoredContexts,
)
from core.domain.ids import FeatureId
from core.domain.model import ModelInfo, ModelKind, ModelSource
from core.domain.views import Vocabulary
from tests.support import builders
from tests.support.builders import MODEL_ID, SAE_ID, make_spec, save_sample_sae
from tests.support.planted import RULES, text_tokens

NAMES = list(RULES)
N_FEATURES = len(NAMES) + 1
DEAD = len(NAMES)
N_CONTEXTS = 240
BOS = 0


def feature(index: int) -> FeatureId:
    """The feature of one rule."""
    return FeatureId(model_id=MODEL_ID, sae_id=SAE_ID, index=index)


def publish_planted(session: Session, *, seed: int = 5) -> int:
    """The harvest's id."""
    rng = random.Random(seed)
    texts = [text_tokens(rng) for _ in range(N_CONTEXTS)]
    tokens = ("<bos>", *sorted({token for text in texts for token in text}))
    ids = np.array([[BOS, *(tokens.index(t) for t in text)] for text in texts], np.int32)
    values = np.zeros((*ids.shape, N_FEATURES), np.float32)
    for place, rule in enumerate(RULES.values()):
        for row, text in enumerate(texts):
            noisy = [a * 0.7 * rng.uniform(0.85, 1.15) for a in rule(text)]
            values[row, 1:, place] = noisy
    return harvests.publish(
        session,
        job_id=None,
        model_pk=_save_model(session, tokens),
        spec=make_spec(seed=seed),
        spec_hash=f"planted-{seed}",
        corpus_hash="planted",
        n_contexts=N_CONTEXTS,
        n_tokens=ids.size,
        n_scored=ids.size - N_CONTEXTS,
        contexts=_contexts(ids),
        saes=[(save_sample_sae(session, d_sae=N_FEATURES), _harvest(values, ids))],
    )


def _save_model(session: Session, tokens: tuple[str, ...]) -> int:
    return catalog.save_model(
        session,
        model_id=MODEL_ID,
        source=ModelSource(kind=ModelKind.FOLDER, location="/models/planted"),
        info=ModelInfo(
            n_layers=2,
            d_model=16,
            vocab_size=len(tokens),
            context_limit=128,
            architecture="LlamaForCausalLM",
            revision="planted",
            bos_rule="Each context starts with <bos>.",
        ),
        vocabulary=Vocabulary(
            model_id=MODEL_ID,
            tokens=tuple(token.encode() for token in tokens),
            special_ids=frozenset({BOS}),
        ),
    )


def _contexts(ids: np.ndarray) -> StoredContexts:
    n = len(ids)
    return StoredContexts(
        context_index=np.arange(n, dtype=np.int32),
        token_ids=ids,
        document=np.arange(n, dtype=np.int64),
        start=np.zeros(n, np.int32),
        source_index=np.zeros(n, np.int32),
        sources=("planted",),
    )


def _harvest(values: np.ndarray, ids: np.ndarray) -> SaeHarvest:
    flat = values.reshape(-1, N_FEATURES)
    exponent, histogram = builders._histograms(flat)
    peak = flat.max(axis=0)
    nobody = np.full((N_FEATURES, 1), -1, np.int32)
    nothing = np.zeros((N_FEATURES, 1), np.float32)
    drawn = np.sort(np.random.default_rng(0).choice(N_CONTEXTS, 60, replace=False))
    assert histogram.shape[1] == HISTOGRAM_BINS
    return SaeHarvest(
        n_scored=ids.size - N_CONTEXTS,
        max_norm=None,
        n_active=(flat > 0).sum(axis=0).astype(np.int64),
        n_contexts=(values > 0).any(axis=1).sum(axis=0).astype(np.int64),
        sum_activation=flat.sum(axis=0, dtype=np.float64),
        max_activation=peak,
        peak_token=np.where(peak > 0, ids.reshape(-1)[flat.argmax(axis=0)], -1).astype(np.int32),
        histogram_exponent=exponent,
        histogram=histogram,
        coactivation=Neighbours(index=nobody, value=nothing),
        coactivation_support=np.zeros((N_FEATURES, 1), np.int32),
        decoder_cosine=Neighbours(index=nobody, value=nothing),
        logit_effect=LogitEffect(
            top_ids=np.ones((N_FEATURES, 2), np.int32),
            top_values=np.ones((N_FEATURES, 2), np.float32),
            bottom_ids=np.full((N_FEATURES, 2), 2, np.int32),
            bottom_values=-np.ones((N_FEATURES, 2), np.float32),
        ),
        contexts=builders._kept(values, n_top=20, n_band=6),
        random=builders._random(values, drawn),
    )
