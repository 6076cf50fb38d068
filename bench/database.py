"""Speed and size of the database: publishing a wide harvest, then reading lists and pages of it.

python -m bench.database --saes 26 --features 16384
"""

import argparse
import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from core.db.embedded import EmbeddedDatabase, start_database
from core.db.migrate import migrate
from core.db.repositories import catalog, feature_pages, features, harvests
from core.db.session import Session, SessionScope, make_engine, session_scope
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
from core.domain.ids import FeatureId
from core.domain.model import ModelInfo, ModelKind, ModelSource
from core.domain.sae import SaeInfo, SaeKind, SaeSource
from core.domain.views import FeatureQuery, FeatureSort, Vocabulary

MODEL_ID = "bench-lm"
CONTEXT_SIZE = 128
VOCAB_SIZE = 50_000
N_BANDS = (20, 6, 6, 6, 6)  # the default preset: TOP, then the four quantile bands
N_RANDOM = 128


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saes", type=int, default=2)
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--contexts", type=int, default=20_000)
    options = parser.parse_args()
    table = Table("what", "measured", title="Database")
    with tempfile.TemporaryDirectory() as folder, start_database(Path(folder)) as database:
        migrate(database.url)
        engine = make_engine(database.url)
        scope = session_scope(engine)
        n, n_saes = options.features, options.saes
        harvest_id, spent = publish(
            scope, Clock(database), n_saes=n_saes, n=n, n_contexts=options.contexts
        )
        table.add_row("published", f"{n_saes} x {n:,} features in {spent}")
        table.add_row("features a second", f"{n_saes * n / spent.wall:,.0f}")
        table.add_row("features a processor second", f"{n_saes * n / spent.processor:,.0f}")
        for name, size in sizes(engine).items():
            per = f" = {size / (n_saes * n):,.0f} a feature" if name.startswith("feature") else ""
            table.add_row(f"bytes of {name}", f"{size:,}{per}")
        for name, read in readers(scope, n).items():
            table.add_row(name, measured(Clock(database), read))
        clock = Clock(database)
        began = clock.now()
        with scope() as session:
            harvests.delete(session, harvest_id)
        table.add_row("deleted in", str(clock.now() - began))
        engine.dispose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.add_row("peak memory", f"{peak:,.0f} MB")
    Console().print(table)


def publish(
    scope: SessionScope, clock: "Clock", *, n_saes: int, n: int, n_contexts: int
) -> tuple[int, "Seconds"]:
    """A harvest's id and the seconds it took to store, the making of its data not counted."""
    spent = Seconds(0.0, 0.0)
    rng = np.random.default_rng(0)
    contexts = make_contexts(rng, n_contexts)
    with scope() as session:
        model_pk, sae_pks = save_catalog(session, n_saes, n)

        def one_by_one() -> Iterator[tuple[int, SaeHarvest]]:
            nonlocal spent
            for sae_pk in sae_pks:
                began = clock.now()
                harvest = make_harvest(rng, n, n_contexts)
                spent += clock.now() - began
                yield sae_pk, harvest

        began = clock.now()
        harvest_id = harvests.publish(
            session,
            job_id=None,
            model_pk=model_pk,
            spec=make_spec(n_saes),
            spec_hash="bench",
            corpus_hash="bench",
            n_contexts=n_contexts,
            n_tokens=n_contexts * CONTEXT_SIZE,
            n_scored=n_contexts * (CONTEXT_SIZE - 1),
            contexts=contexts,
            saes=one_by_one(),
        )
    return harvest_id, clock.now() - began - spent


def readers(scope: SessionScope, n: int) -> dict[str, Callable[[], object]]:
    """What pages ask for."""

    def listed(query: FeatureQuery) -> Callable[[], object]:
        def read() -> object:
            with scope() as session:
                return features.list_features(
                    session, model_id=MODEL_ID, sae_id="0-bench", query=query
                )

        return read

    def page() -> object:
        feature = FeatureId(model_id=MODEL_ID, sae_id="0-bench", index=n // 2)
        with scope() as session:
            return feature_pages.feature_page(session, feature=feature)

    dense = FeatureQuery(sort=FeatureSort.DENSITY, descending=True)
    return {
        "list by index": listed(FeatureQuery()),
        "list by density": listed(dense),
        "list from the middle": listed(replace(dense, after=f"0.005_{n // 2}")),
        "list by token": listed(replace(dense, token="12")),  # noqa: S106 - a word, no secret
        "feature page": page,
    }


@dataclass(frozen=True, slots=True)
class Seconds:
    """Time passed, and processor time of this process with all of PostgreSQL's."""

    wall: float
    processor: float

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.processor - other.processor)

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, processor {self.processor:.1f} s"


class Clock:
    """Both times; on a busy machine only processor time says what the work costs."""

    def __init__(self, database: EmbeddedDatabase) -> None:
        self._server = psutil.Process(database.pid)

    def now(self) -> Seconds:
        """Since some moment."""
        processes = [self._server, *self._server.children()]
        server = 0.0
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                server += times.user + times.system
        return Seconds(time.perf_counter(), time.process_time() + server)


def measured(clock: Clock, read: Callable[[], object], *, times: int = 60) -> str:
    """The middle run's time, and processor time of the mean run."""
    read()
    spent = []
    began = clock.now()
    for _ in range(times):
        start = time.perf_counter()
        read()
        spent.append(time.perf_counter() - start)
    processor = (clock.now() - began).processor / times
    return f"{1000 * statistics.median(spent):.1f} ms, processor {1000 * processor:.1f} ms"


def sizes(engine: Engine) -> dict[str, int]:
    """Bytes on disk of each table with its indices."""
    tables = ("feature", "feature_evidence", "context", "vocabulary")
    with engine.connect() as connection:
        query = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
        return {name: connection.execute(query, {"name": name}).scalar_one() for name in tables}


def make_contexts(rng: np.random.Generator, n_contexts: int) -> StoredContexts:
    """Contexts of random tokens."""
    return StoredContexts(
        context_index=np.arange(n_contexts, dtype=np.int32),
        token_ids=rng.integers(0, VOCAB_SIZE, (n_contexts, CONTEXT_SIZE)).astype(np.int32),
        document=np.arange(n_contexts, dtype=np.int64),
        start=np.zeros(n_contexts, np.int32),
        source_index=np.zeros(n_contexts, np.int32),
        sources=("bench",),
    )


def make_rows(
    rng: np.random.Generator, bands: np.ndarray, contexts: np.ndarray, mean: float
) -> ContextRows:
    """The same bands for every feature of "feature row", with so many activations a row."""
    drawn = np.minimum(rng.poisson(mean, contexts.shape), CONTEXT_SIZE - 1)
    silent_last = np.argsort(drawn == 0, axis=1, kind="stable")
    contexts = np.take_along_axis(contexts, silent_last, axis=1)
    sizes = np.take_along_axis(drawn, silent_last, axis=1).reshape(-1)
    ends = np.cumsum([0, *sizes])
    order = np.arange(ends[-1]) - np.repeat(ends[:-1], sizes)
    return ContextRows(
        row_offsets=np.arange(len(contexts) + 1, dtype=np.int64) * contexts.shape[1],
        context_index=contexts.reshape(-1).astype(np.int32),
        band=np.tile(bands.astype(np.int8), len(contexts)),
        nnz_offsets=ends.astype(np.int64),
        positions=(1 + order).astype(np.uint16),
        values=rng.gamma(2.0, 8.0, ends[-1]).astype(np.float32),
    )


def make_harvest(rng: np.random.Generator, n: int, n_contexts: int) -> SaeHarvest:
    """Random numbers of the sizes of a Gemma Scope harvest of 16 k features."""
    bands = np.repeat(np.arange(5), N_BANDS)
    kept = rng.integers(0, n_contexts, (n, len(bands)))
    drawn = np.sort(rng.choice(n_contexts, N_RANDOM, replace=False))
    n_scored = n_contexts * (CONTEXT_SIZE - 1)
    n_active = np.maximum(rng.lognormal(-5.5, 1.2, n) * n_scored, 1).astype(np.int64)

    def ids(high: int, k: int) -> np.ndarray:
        return rng.integers(0, high, (n, k)).astype(np.int32)

    def values(k: int) -> np.ndarray:
        return rng.random((n, k), dtype=np.float32)

    return SaeHarvest(
        n_scored=n_scored,
        max_norm=None,
        n_active=n_active,
        n_contexts=np.minimum(n_active, n_contexts),
        sum_activation=n_active * 9.0,
        max_activation=rng.gamma(4.0, 10.0, n).astype(np.float32),
        peak_token=ids(VOCAB_SIZE, 1)[:, 0],
        histogram_exponent=np.full(n, 6),
        histogram=rng.poisson(n_active[:, None] / HISTOGRAM_BINS, (n, HISTOGRAM_BINS)).astype(
            np.uint32
        ),
        coactivation=Neighbours(index=ids(n, 10), value=values(10)),
        coactivation_support=ids(1000, 10),
        decoder_cosine=Neighbours(index=ids(n, 10), value=values(10)),
        logit_effect=LogitEffect(
            top_ids=ids(VOCAB_SIZE, 10),
            top_values=values(10),
            bottom_ids=ids(VOCAB_SIZE, 10),
            bottom_values=values(10),
        ),
        contexts=make_rows(rng, bands, kept, 10.0),
        random=make_rows(rng, np.full(N_RANDOM, Band.RANDOM), np.tile(drawn, (n, 1)), 0.1),
    )


def save_catalog(session: Session, n_saes: int, n: int) -> tuple[int, tuple[int, ...]]:
    """Keys of a model and its SAEs."""
    words = tuple(str(i).encode() for i in range(VOCAB_SIZE))
    model_pk = catalog.save_model(
        session,
        model_id=MODEL_ID,
        source=ModelSource(kind=ModelKind.FOLDER, location="bench"),
        info=ModelInfo(
            n_layers=n_saes,
            d_model=2304,
            vocab_size=VOCAB_SIZE,
            context_limit=8192,
            architecture="none",
            revision="bench",
            bos_rule="none",
        ),
        vocabulary=Vocabulary(model_id=MODEL_ID, tokens=words, special_ids=frozenset()),
    )
    sae_pks = [
        catalog.save_sae(
            session,
            model_id=MODEL_ID,
            sae_id=f"{i}-bench",
            source=sae_source(i),
            info=SaeInfo(
                hook_name=f"blocks.{i}.hook_resid_post",
                layer=i,
                d_in=2304,
                d_sae=n,
                architecture="jumprelu",
                normalize_activations="none",
                revision=f"bench-{i}",
            ),
            record={},
        )
        for i in range(n_saes)
    ]
    return model_pk, tuple(sae_pks)


def make_spec(n_saes: int) -> HarvestSpec:
    """What the harvest pretends to have been asked for."""
    return HarvestSpec(
        model_id=MODEL_ID,
        model=ModelSource(kind=ModelKind.FOLDER, location="bench"),
        saes=tuple(SaeEntry(sae_id=f"{i}-bench", source=sae_source(i)) for i in range(n_saes)),
        corpus=FileCorpusSpec(path="bench.txt"),
        context_size=CONTEXT_SIZE,
    )


def sae_source(i: int) -> SaeSource:
    """Where an SAE pretends to be from."""
    return SaeSource(kind=SaeKind.FOLDER, location=f"bench/{i}")


if __name__ == "__main__":
    main()
