"""Speed, memory and bytes of a harvest: ``python -m bench.harvest``.

Prints, of one run on one machine:

1. tokens/s of the harvest against the bare forward pass stopped at the same layer plus one encode,
   measured in turns over the same contexts;
2. how speed and peak memory grow with d_sae and with the corpus, each run in a process of its own;
3. bytes a feature in the database, and rows written a second.

SAEs are random TopK ones (64 active features a token) unless the demo's is there; the text is the
demo corpus. ``--full`` adds a million tokens for every width (an hour on two cores).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from safetensors.torch import save_file
from sqlalchemy import text

from core.db.embedded import start_database
from core.db.migrate import migrate
from core.db.repositories import attempts
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.corpus import DemoCorpusSpec, DemoSlice
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.preset import load_preset
from core.domain.sae import SaeKind, SaeSource
from core.jobs.control import submit
from worker.harvest.assemble import choose_contexts
from worker.harvest.corpus_store import CorpusStore
from worker.harvest.one_pass import OnePass
from worker.harvest.prepare import Prepared, prepare
from worker.harvest.publish import publish
from worker.harvest.relations import find_relations
from worker.lm.capture import capture
from worker.progress import JobContext

_CACHE = Path("~/.cache/sparsight").expanduser()
_D_IN = 576
_DEMO_SAE = Path("worker/demo_saes/15-demo-res-4k")
_WIDTHS = (2_048, 8_192, 32_768, 65_536)
_TOKENS = (50_000, 200_000, 1_000_000)


class Growth(NamedTuple):
    """One line of the growth table.

    Attributes:
        peak_bytes: largest resident memory of the process.
        base_bytes: resident memory once model and SAE are loaded.
        database_bytes: growth of the database by the harvest.
        rows_per_second: (feature, context) rows written a second.
    """

    d_sae: int
    n_tokens: int
    tokens_per_second: float
    base_bytes: int
    peak_bytes: int
    database_bytes: int
    rows_per_second: float


class _Spent(NamedTuple):
    """Seconds by the clock, and of this process's processors, which others do not disturb."""

    wall: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> "_Spent":
        return cls(time.perf_counter(), time.process_time())

    def plus(self, began: "_Spent") -> "_Spent":
        now = _Spent.now()
        return _Spent(
            self.wall + now.wall - began.wall, self.processor + now.processor - began.processor
        )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=60_000, help="tokens of the speed ratio")
    parser.add_argument("--full", action="store_true", help="a million tokens for every width")
    parser.add_argument("--ratio-only", action="store_true", help="leave out growth")
    parser.add_argument("--one", nargs=2, type=int, metavar=("D_SAE", "TOKENS"), help="one line")
    arguments = parser.parse_args()
    if arguments.one:
        _say(json.dumps(_growth(*arguments.one)._asdict()))
        return
    _print_ratio(arguments.tokens)
    if not arguments.ratio_only:
        _print_growth(_plan(full=arguments.full))


def _plan(*, full: bool) -> list[tuple[int, int]]:
    if full:
        return [(width, tokens) for width in _WIDTHS for tokens in _TOKENS]
    return [(width, _TOKENS[0]) for width in _WIDTHS] + [(4_096, n) for n in _TOKENS]


def _print_ratio(n_tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder, _claimed(_spec(Path(folder), n_tokens)) as held:
        spec, job, _scope = held
        prepared = prepare(spec, job)
        one_pass = OnePass(spec, prepared, job)
        bare, harvest, began = _Spent(), _Spent(), _Spent.now()
        for contexts in one_pass.shards():
            harvest = harvest.plus(began)
            began = _Spent.now()
            _bare(prepared, spec, contexts)
            bare = bare.plus(began)
            began = _Spent.now()
        n = prepared.store.facts.n_tokens
        sae = prepared.saes[0].info
        _say(f"SmolLM2-135M to {sae.hook_name}, {sae.architecture} SAE of {sae.d_sae:,} features,")
        _say(f"{n:,} tokens in contexts of {spec.context_size}, {torch.get_num_threads()} threads")
        _say(f"  forward pass and one encode {n / bare.wall:10,.0f} tokens/s")
        _say(f"  harvest                     {n / harvest.wall:10,.0f} tokens/s")
        _say(f"  ratio                       {bare.wall / harvest.wall:10.3f}  (goal 0.8)")
        _say(f"  ratio of processor time     {bare.processor / harvest.processor:10.3f}")
        _say(f"  peak memory                 {_peak_bytes() / 2**20:10,.0f} MiB")


@torch.inference_mode()
def _bare(prepared: Prepared, spec: HarvestSpec, contexts: range) -> None:
    store: CorpusStore = prepared.store
    for first in contexts[:: spec.tile_contexts]:
        tile = store.tile(first, spec.tile_contexts)
        for sae in prepared.saes:
            streams = capture(
                prepared.loaded,
                torch.from_numpy(tile.ids).long(),
                torch.from_numpy(tile.real).long(),
                [sae.info.hook_name],
            )
            sae.encode(streams[sae.info.hook_name].reshape(-1, sae.info.d_in).float())


def _print_growth(plan: list[tuple[int, int]]) -> None:
    _say("\nGrowth: SmolLM2-135M to layer 0, random TopK SAE, 64 active features a token")
    _say("   d_sae     tokens   tokens/s   loaded MiB   peak MiB   bytes/feature    rows/s")
    for d_sae, n_tokens in plan:
        command = [sys.executable, "-m", "bench.harvest", "--one", str(d_sae), str(n_tokens)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603
        line = Growth(**json.loads(done.stdout.splitlines()[-1]))
        _say(
            f"{line.d_sae:8,} {line.n_tokens:10,} {line.tokens_per_second:10,.0f} "
            f"{line.base_bytes / 2**20:12,.0f} {line.peak_bytes / 2**20:10,.0f} "
            f"{line.database_bytes / line.d_sae:15,.0f} {line.rows_per_second:9,.0f}"
        )


def _growth(d_sae: int, n_tokens: int) -> Growth:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sae = _random_sae(folder / "sae", d_sae, "blocks.0.hook_resid_post")
        with _claimed(_spec(folder, n_tokens, sae=sae)) as (spec, job, scope):
            return _measured(spec, job, scope)


def _spec(folder: Path, n_tokens: int, *, sae: SaeSource | None = None) -> HarvestSpec:
    if sae is None and (_DEMO_SAE / "cfg.json").is_file():
        sae = SaeSource(kind=SaeKind.FOLDER, location=str(_DEMO_SAE))
    elif sae is None:
        sae = _random_sae(folder / "sae", 4_608, "blocks.15.hook_resid_post")
    corpus = DemoCorpusSpec(slice=DemoSlice.TRAINING, max_tokens=n_tokens)
    changes = {
        "saes": (SaeEntry(sae_id="0-bench", source=sae),),
        "corpus": corpus,
        "shard_contexts": 64,
    }
    return load_preset("demo").model_copy(update=changes)


def _random_sae(folder: Path, d_sae: int, hook_name: str) -> SaeSource:
    """A sae-lens TopK SAE of random directions."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(d_sae, _D_IN, generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": rows.T.contiguous(),
        "W_dec": rows,
        "b_enc": torch.zeros(d_sae),
        "b_dec": torch.zeros(_D_IN),
    }
    config = {
        "architecture": "topk",
        "k": 64,
        "d_in": _D_IN,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {
            "sae_lens_version": "6.54.12",
            "hook_name": hook_name,
            "model_name": "smollm2-135m",
            "prepend_bos": True,
        },
    }
    save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return SaeSource(kind=SaeKind.FOLDER, location=str(folder))


@contextmanager
def _claimed(spec: HarvestSpec) -> Iterator[tuple[HarvestSpec, JobContext, SessionScope]]:
    """A job of a database of its own, held by this process."""
    with tempfile.TemporaryDirectory() as name, start_database(Path(name) / "pg") as database:
        migrate(database.url)
        scope = session_scope(make_engine(database.url))
        with scope() as session:
            job_id = submit(session, spec)
            claim = attempts.claim(session, job_id=job_id, attempt=1, owner="bench:1:1")
        if claim is None:
            raise RuntimeError("A job that was just submitted cannot be claimed.")
        work_dir = Path(name) / "job"
        with JobContext(claim=claim, scope=scope, work_dir=work_dir, cache_dir=_CACHE) as job:
            yield spec, job, scope


def _measured(spec: HarvestSpec, job: JobContext, scope: SessionScope) -> Growth:
    """One whole harvest; the pass is timed alone, memory is that of all of it."""
    before = _database_bytes(scope)
    prepared = prepare(spec, job)
    base = psutil.Process().memory_info().rss
    began = time.perf_counter()
    one_pass = OnePass(spec, prepared, job)
    for _ in one_pass.shards():
        pass
    seconds = time.perf_counter() - began
    states = one_pass.states()
    kept = [choose_contexts(spec, state) for state in states]
    n_rows = sum(len(rows.band) for rows in kept) + spec.n_random * _width(prepared)
    relations = find_relations(spec, prepared, states, job)
    began = time.perf_counter()
    publish(spec, prepared, states, relations, job)
    written = time.perf_counter() - began
    return Growth(
        d_sae=_width(prepared),
        n_tokens=prepared.store.facts.n_tokens,
        tokens_per_second=prepared.store.facts.n_tokens / seconds,
        base_bytes=base,
        peak_bytes=_peak_bytes(),
        database_bytes=_database_bytes(scope) - before,
        rows_per_second=n_rows / written,
    )


def _width(prepared: Prepared) -> int:
    """Features of the first SAE."""
    return prepared.saes[0].info.d_sae


def _database_bytes(scope: SessionScope) -> int:
    with scope() as session:
        return int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
